"""Rows with one text share the layers below their prompts: the trunk runs once, and branches where a prompt begins.

Until a row's prompt is first read, its hidden states are those of its text alone. So of all rows with the same text
and no prompt yet, one runs; at the layer where prompts of theirs begin it is copied for each. Rows that share text and
prompt stay together to the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foreword.injection import Injection, Prompt


@dataclass(frozen=True)
class Branching:
    """Which rows run at which layer. From one level to the next there are more of them.

    Attributes:
        starts: per level, the first layer of it; that of the first is 0.
        rows: per level ``(A,)`` int64, for each row that runs a row of the batch that it stands for.
        places: per level ``(B,)`` int64, for each row of the batch the one that runs for it.
    """

    starts: tuple[int, ...]
    rows: tuple[Tensor, ...]
    places: tuple[Tensor, ...]

    def level(self, layer: int) -> int:
        """The level that a layer is in."""
        return bisect_right(self.starts, layer) - 1

    def grown(self, value: Any, level: int) -> Any:
        """What a layer is given, for the rows of its level.

        Tensors with a first axis of the rows of an earlier level, and tuples of them, are grown; numbers of rows differ
        from level to level, so they tell it. Everything else is handed on.
        """
        if isinstance(value, tuple):
            return tuple(self.grown(one, level) for one in value)
        return self._taken(value, level, lambda place: place[self.rows[level]])

    def whole(self, hidden: Tensor) -> Tensor:
        """Hidden states of any level for all rows of the batch, ``(B, S, D)``."""
        out: Tensor = self._taken(hidden, len(self.rows), lambda place: place)
        return out

    def _taken(self, value: Any, below: int, index: Any) -> Any:
        if isinstance(value, Tensor) and value.dim() > 1:
            for rows, places in zip(self.rows[:below], self.places, strict=False):
                if len(rows) == value.shape[0]:
                    return value[index(places)]
        return value


def find_branching(texts: Sequence[Tensor], injection: Injection, depth: int, stack: str) -> Branching | None:
    """Which rows can share layers; None where there are none.

    Args:
        texts: all that tells one text from another, ``(B, T)`` int64 each: ids, mask, segments.
        injection: the prompts of the rows.
        depth: N, layers of the stack.
        stack: which runs.
    """
    device, rows = texts[0].device, torch.stack(list(texts), dim=1).cpu().numpy()
    words = [row.tobytes() for row in rows]
    if len(set(words)) == len(words):
        return None
    numbers = [0] * len(words) if injection.rows is None else injection.rows.tolist()
    begins = [first_layer(prompt, depth, stack) for prompt in injection.bank]
    starts, firsts, places = list[int](), list[Tensor](), list[Tensor]()
    for start in sorted({0, *begins} - {depth}):
        groups: dict[tuple[bytes, int], int] = {}
        apart = [number if begins[number] <= start else -1 for number in numbers]
        place = [groups.setdefault(key, len(groups)) for key in zip(words, apart, strict=True)]
        if firsts and len(groups) == len(firsts[-1]):
            continue
        starts.append(start)
        firsts.append(torch.tensor([place.index(number) for number in range(len(groups))], device=device))
        places.append(torch.tensor(place, device=device))
    if len(firsts[0]) == len(words):
        return None
    return Branching(tuple(starts), tuple(firsts), tuple(places))


def first_layer(prompt: Prompt, depth: int, stack: str) -> int:
    """The first layer whose input or attention a prompt changes; N where it changes none."""
    if prompt.inputs is not None or (prompt.shift_positions and prompt.length):
        return 0
    return min((site.layer for site in prompt.prefix if site.stack == stack), default=depth)
