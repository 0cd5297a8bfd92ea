"""Rows without their padding, one behind the other: what works token by token computes no padding.

Only attention looks at other tokens, and it is ours: there the rows are spread out again, each for itself. On a CPU
alone, where time is the number of tokens; elsewhere finding the tokens would be a wait. Packed or not, batches come in
few sizes (`foreword.backbones.sizes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from foreword.backbones.sizes import rounded_up

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
        mask: ``(B, S)`` bool, True for the real tokens, which stand at the beginning of every row.
        lengths: how many each row has.
        places: of the tokens among the B S positions.
        size: N, of the long row: the number of tokens, rounded up to one of few sizes. What is left of it is zero.
    """

    mask: Tensor
    lengths: tuple[int, ...]
    places: Tensor
    size: int

    @classmethod
    def of(cls, mask: Tensor) -> Packing | None:
        """The packing of a batch, if it is worth it.

        Args:
            mask: ``(B, S)``, nonzero for real tokens, padding on the right.
        """
        lengths = row_lengths(mask)
        if lengths is None:
            return None
        size = rounded_up(sum(lengths))
        if size > MOST_FILLED * mask.numel():
            return None
        real = mask != 0
        return cls(real, tuple(lengths), real.flatten().nonzero()[:, 0], size)

    @cached_property
    def attention_mask(self) -> Tensor:
        """``(B, 1, S, S)`` bool: all that is no padding may be read."""
        return self.mask[:, None, None, :].expand(-1, -1, self.mask.shape[1], -1)

    @cached_property
    def rows(self) -> Tensor:
        """``(N,)`` int64, the row that each token of the long row is of; 0 for what is left of it."""
        return pad(self.places // self.mask.shape[1], (0, self.size - len(self.places)))

    def into(self, values: Tensor) -> Tensor:
        """``(B, S, ...)`` -> ``(1, N, ...)``."""
        found: Tensor = _Packed.apply(values, self)  # type: ignore[no-untyped-call]
        return found

    def back(self, values: Tensor) -> Tensor:
        """``(1, N, ...)`` -> ``(B, S, ...)``, zero where there is no token."""
        found: Tensor = _Spread.apply(values, self)  # type: ignore[no-untyped-call]
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
        return {name: self.into(value) for name, value in whole.items() if name != "attention_mask"}


@dataclass(frozen=True)
class Widening:
    """Rows that stay as they are, but for some positions at their ends.

    Attributes:
        more: how many.
    """

    more: int

    def into(self, values: Tensor) -> Tensor:
        """``(B, S, ...)`` -> ``(B, S + more, ...)``, zero there."""
        return pad(values, (0, 0) * (values.ndim - 2) + (0, self.more))

    def back(self, values: Tensor) -> Tensor:
        """``(B, S + more, ...)`` -> ``(B, S, ...)``."""
        return values[:, : -self.more]

    def inputs(self, given: Mapping[str, Tensor], positions: Tensor) -> dict[str, Any]:
        """What a model is given of a batch, wider; it numbers the positions itself."""
        del positions
        return {name: self.into(value) for name, value in given.items()}


def arrangement(mask: Tensor, longest: int) -> Packing | Widening | None:
    """How a batch is best laid out on a CPU; None where it is as it should be.

    Args:
        mask: ``(B, S)``, nonzero for real tokens.
        longest: the most positions of one row.
    """
    if mask.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    packing = Packing.of(mask)
    if packing is not None:
        return packing
    length = mask.shape[1]
    more = min(rounded_up(length), longest) - length
    return Widening(more) if more > 0 else None


def _packed(values: Tensor, packing: Packing) -> Tensor:
    tokens = len(packing.places)
    out = values.new_empty(packing.size, *values.shape[2:])
    torch.index_select(values.detach().flatten(0, 1), 0, packing.places, out=out[:tokens])
    out[tokens:] = 0
    return out[None]


def _spread(values: Tensor, packing: Packing) -> Tensor:
    out = values.new_zeros(packing.mask.numel(), *values.shape[2:])
    out.index_copy_(0, packing.places, values[0, : len(packing.places)])
    return out.view(*packing.mask.shape, *values.shape[2:])


class _Packed(torch.autograd.Function):
    """Its gradient is spread, which takes less time than adding up what torch thinks may have been taken twice."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return _packed(values, packing)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _spread(grad, ctx.packing), None


class _Spread(torch.autograd.Function):
    """The other way round."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return _spread(values, packing)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _packed(grad, ctx.packing), None
