"""The best sequence of IOB2 tags among those that are valid.

Source: the algorithm of Viterbi 1967; forbidden transitions in place of learned ones as in He et al. 2017 (Deep
Semantic Role Labeling: What Works and What's Next), section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

_LEAST = -1e4
"""Least log-probability of a tag: a sequence of allowed tags always beats one with a forbidden step."""


def best_valid(log_probabilities: Tensor, tags: Sequence[str]) -> list[int]:
    """The valid sequence whose tags have the greatest sum of log-probabilities.

    ``I-X`` may only follow ``B-X`` and ``I-X``; ``O`` and ``B-X`` may stand anywhere.

    Args:
        log_probabilities: ``(W, C)``, of each tag for each word; ``-inf`` counts as very little.
        tags: the C tags, ``O`` among them.

    Returns:
        W numbers of tags.
    """
    if not len(log_probabilities):
        return []
    starts, steps = _allowed(tuple(tags))
    scores = log_probabilities.double().clamp(min=_LEAST)
    best, back = scores[0] + starts, []
    for score in scores[1:]:
        best, before = (best[:, None] + steps).max(0)  # (C, C) -> (C,): the best tag before each tag
        best = best + score
        back.append(before)
    path = [int(best.argmax())]
    for before in reversed(back):
        path.append(int(before[path[-1]]))
    return path[::-1]


@cache
def _allowed(tags: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Zero where a tag may begin ``(C,)`` and where one may follow another ``(C, C)``, and ``-inf`` elsewhere."""
    inside = torch.tensor([tag.startswith("I-") for tag in tags])
    types = [tag[2:] for tag in tags]
    same = torch.tensor([[before == after for after in types] for before in types])
    impossible = torch.tensor(float("-inf"), dtype=torch.float64)
    starts = torch.where(inside, impossible, 0.0)
    return starts, torch.where(inside & ~same, impossible, 0.0)
