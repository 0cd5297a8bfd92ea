"""Rows without their padding, one behind the other: what works token by token computes no padding.

Only attention looks at other tokens, and it is ours: there the rows are spread out again, each for itself. On a CPU
alone, where time is the number of tokens; elsewhere finding the tokens would be a wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MOST_FILLED = 0.93
"""Share of real tokens up to which packing is worth the copies it needs."""


def row_lengths(mask: Tensor) -> list[int] | None:
    """Real tokens of every row, if they stand at its beginning; None where one stands behind padding.

    Args:
        mask: ``(B, S)``, nonzero for real tokens.
    """
    real = mask != 0
    if bool((real[:, 1:] & ~real[:, :-1]).any()):
        return None
    lengths: list[int] = real.sum(1).tolist()
    return lengths


@dataclass(frozen=True)
class Packing:
    """Where the tokens of a batch stand in one long row, and where they come from.

    Attributes:
        mask: ``(B, S)`` bool, True for the N real tokens, which stand at the beginning of every row.
        lengths: how many each row has.
        places: ``(N,)``, of the tokens among the B S positions.
    """

    mask: Tensor
    lengths: tuple[int, ...]
    places: Tensor

    @classmethod
    def of(cls, mask: Tensor) -> Packing | None:
        """The packing of a batch, if it is worth it.

        Args:
            mask: ``(B, S)``, nonzero for real tokens, padding on the right.
        """
        if mask.device.type != "cpu" or torch.compiler.is_compiling():
            return None
        lengths = row_lengths(mask)
        if lengths is None or sum(lengths) > MOST_FILLED * mask.numel():
            return None
        real = mask != 0
        return cls(real, tuple(lengths), real.flatten().nonzero()[:, 0])

    @cached_property
    def attention_mask(self) -> Tensor:
        """``(B, 1, S, S)`` bool: all that is no padding may be read."""
        return self.mask[:, None, None, :].expand(-1, -1, self.mask.shape[1], -1)

    def packed(self, values: Tensor) -> Tensor:
        """``(B, S, ...)`` -> ``(1, N, ...)``."""
        found: Tensor = _Packed.apply(values, self.places, self.mask.shape)  # type: ignore[no-untyped-call]
        return found

    def spread(self, values: Tensor) -> Tensor:
        """``(1, N, ...)`` -> ``(B, S, ...)``, zero where there is no token."""
        found: Tensor = _Spread.apply(values, self.places, self.mask.shape)  # type: ignore[no-untyped-call]
        return found

    def inputs(self, given: Mapping[str, Tensor], positions: Tensor) -> dict[str, Any]:
        """What a model is given of a batch, packed; every token brings its position and its type.

        Args:
            given: ``(B, S, ...)`` each.
            positions: ``(B or 1, S)``, unless they are given.
        """
        types = torch.zeros_like(self.mask, dtype=torch.long)
        whole = {"position_ids": positions, "token_type_ids": types, **given}
        whole["position_ids"] = whole["position_ids"].expand(self.mask.shape)
        return {name: self.packed(value) for name, value in whole.items() if name != "attention_mask"}


def _packed(values: Tensor, places: Tensor) -> Tensor:
    return values.flatten(0, 1).index_select(0, places)[None]


def _spread(values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    out = values.new_zeros(shape.numel(), *values.shape[2:])
    return out.index_copy_(0, places, values[0]).view(*shape, *values.shape[2:])


class _Packed(torch.autograd.Function):
    """Its gradient is spread, which takes less time than adding up what torch thinks may have been taken twice."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = shape
        return _packed(values, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return _spread(grad, places, ctx.shape), None, None


class _Spread(torch.autograd.Function):
    """The other way round."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(places)
        return _spread(values, places, shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return _packed(grad, places), None, None
