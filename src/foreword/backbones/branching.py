"""Rows with one text share the layers below their prompts: the trunk runs once, and branches where a prompt begins.

Until a row's prompt is first read, its hidden states are those of its text alone. So of all rows with the same text
and no prompt yet, one runs; at the layer where prompts of theirs begin it is copied for each. What that layer does
before it attends (projections, and norms before them) still is the same for the copies, and is done once. Rows that
share text and prompt stay together to the end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from foreword.injection import Injection, Prompt

_EACH_POSITION_ALONE = (linear, layer_norm)


class Copies(Tensor):
    """Hidden states in which rows come several times: linear maps and norms of them are computed once for each.

    They are ordinary tensors to all else, which makes ordinary tensors of them.

    Attributes:
        originals: ``(A, S, D)``, the rows that differ.
        places: ``(B,)`` int64, for each row which of them it is.
    """

    originals: Tensor
    places: Tensor

    @classmethod
    def of(cls, originals: Tensor, places: Tensor) -> Copies:
        """Copies of rows, ``(B, S, D)``."""
        out = originals[places].as_subclass(cls)
        out.originals, out.places = originals, places
        return out

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for every operation on copies."""
        del types
        with torch._C.DisableTorchFunctionSubclass():
            if func in _EACH_POSITION_ALONE and isinstance(args[0], cls):
                return cls.of(func(args[0].originals, *args[1:], **(kwargs or {})), args[0].places)
            return func(*args, **(kwargs or {}))


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
        places = self._places_of(value, level)
        if places is None:
            return value
        places = places[self.rows[level]]
        states = value.dim() == 3 and value.is_floating_point()
        return Copies.of(value, places) if states else value[places]

    def whole(self, hidden: Tensor) -> Tensor:
        """Hidden states of any level for all rows of the batch, ``(B, S, D)``."""
        places = self._places_of(hidden, len(self.rows))
        return hidden if places is None or len(places) == len(hidden) else hidden[places]

    def _places_of(self, value: Any, below: int) -> Tensor | None:
        """The places of the first level whose rows a value has; None where no level below a certain one has them."""
        if isinstance(value, Tensor) and value.dim() > 1:
            for rows, places in zip(self.rows[:below], self.places, strict=False):
                if len(rows) == value.shape[0]:
                    return places
        return None


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
    reads = [site.layer for site in prompt.prefix if site.stack == stack]
    return min([*reads, *prompt.modulations], default=depth)
