"""Attention on a CPU, some rows of a batch at a time.

Attention weights of a few rows stay in the cache, where those of a whole batch go out to memory; so plain matrix
products in bfloat16 take half of the time of torch's own kernel, gradients included (benchmarks/cpu_kernels.py).
The weights are made once more in the backward pass, so that queries, keys and values are all that is kept between. Only
dropout has to remember what it dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from foreword.backbones.dropout import in_256ths, kept_at_random, thinned
from foreword.backbones.sizes import rounded_up

AT_ONCE = 2**21
"""Bytes of attention weights that are made at once, though never less than those of one row."""
MOST_FLOAT32 = 2**19
"""Attention weights of a row, of all heads, up to which float32 is faster this way."""
NATIVE_BFLOAT16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()
"""Whether this machine multiplies in bfloat16 by itself; else products are made in float32."""


def suits(query: Tensor, key: Tensor, mask: Tensor | None, dropout: float) -> bool:
    """Whether attention is to be computed here.

    Args:
        query: ``(B, H, T, E)``.
        key: ``(B, H or fewer, S, E)``.
        mask: ``(B or 1, H or 1, T or 1, S)`` or None.
        dropout: of attention weights.
    """
    _, heads, length, _ = query.shape
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.bfloat16)
        and length > 1
        and not (mask is not None and mask.requires_grad)
        and not torch.compiler.is_compiling()
        and (query.dtype == torch.bfloat16 or dropout > 0 or heads * length * key.shape[2] <= MOST_FLOAT32)
    )


def to_be_added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to products of queries and keys.

    Args:
        mask: ``(B or 1, H or 1, T, S)``, boolean (True = may attend) or such already.
        dtype: of the products.

    Returns:
        ``(B or 1, H or 1, T or 1, S)``; 1 where all queries of a row may attend to the same.
    """
    if mask.stride(2) == 0:
        mask = mask[:, :, :1]
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def attend_in_chunks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scaling: float | None,
    dropout: float,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: ``(B, H, T, E)``, float32 or bfloat16.
        key, value: ``(B, H or fewer, S, E)`` of the same kind; if fewer, several heads of the query read each.
        mask: `to_be_added`, or None hides nothing. A position that may attend to nothing attends to all alike.
        scaling: of the products; the square root of E divides them if None.
        dropout: probability of dropping an attention weight, rounded to a multiple of 1/256.
        lengths: how many positions of each row are asked for. All but so many queries, or some more, are left out, and
            as many keys at the end, which the mask has to hide.

    Returns:
        ``(B, T, H, E)``; zero where a query was left out.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    out: Tensor = _InChunks.apply(query, key, value, mask, scaling, in_256ths(dropout), lengths)  # type: ignore[no-untyped-call]
    return out


class _InChunks(torch.autograd.Function):
    """See `attend_in_chunks`."""

    @staticmethod
    def forward(  # noqa: PLR0917  as autograd calls it
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Tensor | None,
        scaling: float,
        dropped: int,
        asked_for: Sequence[int] | None,
    ) -> Tensor:
        rows, heads, length, _ = query.shape
        kept = kept_at_random((rows, heads, length, key.shape[2]), dropped, query.device) if dropped else None
        ctx.save_for_backward(query, key, value, mask, kept)
        ctx.scaling, ctx.dropped, ctx.chunks = scaling, dropped, list(_chunks(query, key, asked_for))
        out = query.new_zeros(rows, length, heads, value.shape[-1])
        for chunk in ctx.chunks:
            asked, keys, values = _computable(query[chunk.asked], key[chunk.read], value[chunk.read])
            weights = _weights(asked * scaling, keys, chunk.of_mask(mask))
            if kept is not None:
                weights = thinned(weights, kept[chunk.weights], dropped)
            out.transpose(1, 2)[chunk.asked] = torch.matmul(weights, values)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask, kept = ctx.saved_tensors
        given = zip((query, key, value), ctx.needs_input_grad, strict=False)
        for_query, for_key, for_value = (torch.zeros_like(one) if wanted else None for one, wanted in given)
        for chunk in ctx.chunks:
            asked, keys, values, came = _computable(
                query[chunk.asked], key[chunk.read], value[chunk.read], grad.transpose(1, 2)[chunk.asked]
            )
            asked = asked * ctx.scaling
            weights = read = _weights(asked, keys, chunk.of_mask(mask))
            back = torch.matmul(came, values.transpose(-1, -2))
            if kept is not None:
                read, back = (thinned(one, kept[chunk.weights], ctx.dropped) for one in (weights, back))
            back = torch._softmax_backward_data(back, weights, -1, weights.dtype)
            if for_query is not None:
                for_query[chunk.asked] = torch.matmul(back, keys) * ctx.scaling
            if for_key is not None:
                for_key[chunk.read] = torch.matmul(back.transpose(-1, -2), asked)
            if for_value is not None:
                for_value[chunk.read] = torch.matmul(read.transpose(-1, -2), came)
        return for_query, for_key, for_value, None, None, None, None


class _Chunk(NamedTuple):
    """Rows that are computed at once, and how far: ``queries`` and ``keys`` of each."""

    rows: slice
    queries: int
    keys: int

    @property
    def asked(self) -> tuple[slice, ...]:
        return self.rows, slice(None), slice(self.queries)

    @property
    def read(self) -> tuple[slice, ...]:
        return self.rows, slice(None), slice(self.keys)

    @property
    def weights(self) -> tuple[slice, ...]:
        return *self.asked, slice(self.keys)

    def of_mask(self, mask: Tensor | None) -> Tensor | None:
        """What a mask says of these rows; None if it hides nothing."""
        if mask is None:
            return None
        own = mask[self.rows if len(mask) > 1 else slice(None), :, : self.queries, : self.keys]
        return own if bool(own.any()) else None


def _chunks(query: Tensor, key: Tensor, lengths: Sequence[int] | None) -> Iterator[_Chunk]:
    rows, heads, length, _ = query.shape
    step = max(1, AT_ONCE // max(1, heads * length * key.shape[2] * query.element_size()))
    for start in range(0, rows, step):
        left_out = 0 if lengths is None else max(0, length - rounded_up(max(lengths[start : start + step])))
        yield _Chunk(slice(start, start + step), length - left_out, key.shape[2] - left_out)


def _computable(*given: Tensor) -> Iterator[Tensor]:
    return (one if NATIVE_BFLOAT16 else one.float() for one in given)


def _weights(asked: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """What each position reads of each, ``(b, H, T, S)``."""
    products = torch.matmul(asked, keys.transpose(-1, -2))
    return (products if mask is None else products.add_(mask)).softmax(-1)
