"""Several prompts answer one input together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foreword.errors import TaskError
from foreword.inference.engine.handles import Handle, Member, Vote
from foreword.inference.engine.jobs import Part
from foreword.model import mix


def check_members(members: Sequence[Member], vote: Vote) -> None:
    """Refuse members that cannot answer together.

    Raises:
        TaskError: naming what differs.
    """
    first, *others = members
    for other in others:
        ours, theirs = first.manifest.task, other.manifest.task
        for what, one, another in (
            ("type", ours.type, theirs.type),
            ("labels", ours.settings.get("labels"), theirs.settings.get("labels")),
        ):
            if one != another:
                raise TaskError(
                    f"an ensemble answers one task: {first.known_as} has {what} {one!r:.60}, "
                    f"{other.known_as} has {another!r:.60}"
                )
    if first.writes and vote == "mean":
        raise TaskError(f"{first.known_as}: written answers have no mean. Use vote='majority'")


def vote_of(
    handle: Handle, parts: Sequence[Part], logits: Sequence[Sequence[Tensor]], predictions: Sequence[Any]
) -> tuple[Any, float]:
    """The prediction of an ensemble, and the share of members that agree with it.

    By 'majority' the answer most members give wins; it is told with the mean probabilities of those members. Where
    several answers come first, all members decide by their 'mean'; among written ones the earliest member does.

    Args:
        handle: of the ensemble.
        parts: of the job, one per member.
        logits: per member, of its rows.
        predictions: per member.
    """
    task = parts[0].resident.task
    keys = [task.answer_key(prediction) for prediction in predictions]
    chosen = list(range(len(parts)))
    if handle.vote == "majority":
        counts = Counter(keys).most_common()
        first = [key for key, count in counts if count == counts[0][1]]
        if len(first) == 1 or handle.writes:
            chosen = [i for i, key in enumerate(keys) if key == first[0]]
    if handle.writes:
        return predictions[chosen[0]], keys.count(keys[chosen[0]]) / len(keys)
    prediction = _mean(parts, logits, chosen)
    if handle.vote == "majority" and len(chosen) < len(parts) and task.answer_key(prediction) != keys[chosen[0]]:
        prediction = predictions[chosen[0]]
    return prediction, keys.count(task.answer_key(prediction)) / len(keys)


def _mean(parts: Sequence[Part], logits: Sequence[Sequence[Tensor]], chosen: Sequence[int]) -> Any:
    """What the mean probabilities of the chosen members say."""
    part = parts[chosen[0]]
    weights = torch.full((len(chosen),), -math.log(len(chosen)))
    axis = part.resident.head.class_axis
    rows = [mix(torch.stack([logits[i][row] for i in chosen]), weights, axis)[0] for row in range(len(part.rows))]
    return part.resident.task.decode(part.example, part.rows, rows)
