"""The best sequence of IOB2 tags among those that are valid, and how tags follow one another.

Source: the algorithm of Viterbi 1967; forbidden transitions as in He et al. 2017 (Deep Semantic Role Labeling: What
Works and What's Next), section 2.2. Transitions that are counted and not learned are those of Yang and Katiyar 2020
(StructShot), here of every tag by itself; that what a network says is divided by how frequent a tag is, so
that the frequency does not count twice, is from Bourlard and Morgan 1994, the hybrid of networks and Markov models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

Transitions = Mapping[str, Mapping[str, int]]
"""How often one tag follows another: before -> after -> times. `BORDER` is before the first word and after the last."""
BORDER = ""
_LEAST = -1e4
"""Least log-probability of a tag: a sequence of allowed tags always beats one with a forbidden step."""
_UNSEEN = 0.1
"""Times that every step is taken to have been seen beyond those it was."""


def count_transitions(sequences: Iterable[Sequence[str]]) -> dict[str, dict[str, int]]:
    """How often each tag follows each in sequences of tags; what never happens is left out."""
    counted = Counter(pair for tags in sequences for pair in pairwise([BORDER, *tags, BORDER]))
    found: dict[str, dict[str, int]] = {}
    for (before, after), times in sorted(counted.items()):
        found.setdefault(before, {})[after] = times
    return found


def best_valid(
    log_probabilities: Tensor, tags: Sequence[str], transitions: Transitions | None = None, weight: float = 1.0
) -> list[int]:
    """The valid sequence whose tags have the greatest sum of log-probabilities, and of what their steps count.

    ``I-X`` may only follow ``B-X`` and ``I-X``; ``O`` and ``B-X`` may stand anywhere.

    Args:
        log_probabilities: ``(W, C)``, of each tag for each word; ``-inf`` counts as very little.
        tags: the C tags, ``O`` among them.
        transitions: a step from tag a to tag b counts ``weight (log P(b | a) - log P(b))`` by these; nothing if None.
        weight: of the steps, beside each word's log-probabilities.

    Returns:
        W numbers of tags.
    """
    if not len(log_probabilities):
        return []
    starts, steps, ends = _tables(tuple(tags), _hashable(transitions or {}), weight if transitions else 0.0)
    scores = log_probabilities.double().clamp(min=_LEAST)
    best, back = scores[0] + starts, []
    for score in scores[1:]:
        best, before = (best[:, None] + steps).max(0)  # (C, C) -> (C,): the best tag before each tag
        best = best + score
        back.append(before)
    path = [int((best + ends).argmax())]
    for before in reversed(back):
        path.append(int(before[path[-1]]))
    return path[::-1]


_Hashable = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]


def _hashable(transitions: Transitions) -> _Hashable:
    return tuple((before, tuple(after.items())) for before, after in transitions.items())


@lru_cache(maxsize=256)
def _tables(tags: tuple[str, ...], transitions: _Hashable, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """What counts where a tag begins ``(C,)``, where one follows another ``(C, C)``, and where one ends ``(C,)``."""
    inside = torch.tensor([tag.startswith("I-") for tag in tags])
    types = [tag[2:] for tag in tags]
    same = torch.tensor([[before == after for after in types] for before in types])
    impossible = torch.tensor(float("-inf"), dtype=torch.float64)
    counts = weight * _pull((*tags, BORDER), transitions)
    starts, steps, ends = counts[-1, :-1], counts[:-1, :-1], counts[:-1, -1]
    return torch.where(inside, impossible, starts), torch.where(inside & ~same, impossible, steps), ends


def _pull(tags: tuple[str, ...], transitions: _Hashable) -> Tensor:
    """``(C, C)``: by how much more one tag is likely after another than it is anywhere, as logarithms."""
    number = {tag: place for place, tag in enumerate(tags)}
    times = torch.full((len(tags), len(tags)), _UNSEEN, dtype=torch.float64)
    for before, followers in transitions:
        for after, count in followers:
            if before in number and after in number:
                times[number[before], number[after]] += count
    return (times / times.sum(1, keepdim=True)).log() - (times.sum(0) / times.sum()).log()
