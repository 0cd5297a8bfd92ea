"""Inference on rows of mixed lengths: padded batches, sorted or not, and rows packed one behind another.

Packed, everything but attention sees no padding at all. What attention does with rows of different lengths is the
question: Foreword spreads them out again (`foreword.backbones.packing`); here it runs row by row, or once under a mask
that keeps rows apart, or on nested tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from foreword.backbones.attention import KEYWORD
from foreword.backbones.call import PrefixCall
from foreword.data.batching import collate, sorted_batches
from foreword.inference.forward import most_tokens
from suite.trials.whole import Folded, as_it_is, padded
from suite.trials.work import PROMPT, Run, Work

ROWS = 32


class Parts(NamedTuple):
    """What attention is given: queries, keys and values ``(S, H, E)`` of packed rows, and a prefix ``(P, H, E)``."""

    query: Tensor
    key: Tensor
    value: Tensor
    prefix_key: Tensor
    prefix_value: Tensor


Attend = Callable[[Parts], Tensor]
"""Gives ``(S, H, E)``."""


def in_sorted_batches(work: Work) -> Run:
    """Batches in order of length, as Foreword answers files."""
    backbone = work.backbone()
    return _sorted(work, partial(backbone, injection=work.injection(backbone)))


def padded_sorted(work: Work) -> Run:
    """The same batches, with all of their padding."""
    backbone = work.backbone()
    return _sorted(work, Folded(backbone, work.injection(backbone)))


def _sorted(work: Work, model: Callable[[Tensor, Tensor], Tensor]) -> Run:
    most = most_tokens(torch.device("cpu"))
    batches = [collate(work.rows, rows, 0) for rows in sorted_batches(work.lengths, ROWS, most_tokens=most)]

    @torch.inference_mode()
    def run() -> list[Tensor]:
        found: dict[int, Tensor] = {}
        for batch in batches:
            found.update(zip(batch.indices, model(batch.input_ids, batch.attention_mask), strict=True))
        return [found[number][:length] for number, length in enumerate(work.lengths)]

    return run


def row_by_row(work: Work) -> Run:
    """Attention of each row by itself."""

    def attend(given: Parts) -> Tensor:
        out = []
        queries, keys, values = (part.split(work.lengths) for part in given[:3])
        for query, key, value in zip(queries, keys, values, strict=True):
            seen = torch.cat([given.prefix_key, key]), torch.cat([given.prefix_value, value])
            found = scaled_dot_product_attention(*(part[None].transpose(1, 2) for part in (query, *seen)))
            out.append(found[0].transpose(0, 1))
        return torch.cat(out)

    return _packed(work, attend)


def nested(work: Work) -> Run:
    """Attention of all rows at once, as tensors of unequal rows."""
    starts = torch.tensor([0, *accumulate(work.lengths)])
    ends = starts + PROMPT * torch.arange(len(starts))
    front = torch.arange(PROMPT)  # the prompt stands before all rows, and each has it before its own tokens
    order = torch.cat([torch.cat([front, PROMPT + row]) for row in torch.arange(int(starts[-1])).split(work.lengths)])

    def unequal(packed: Tensor, offsets: Tensor) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(packed, offsets).transpose(1, 2)

    def attend(given: Parts) -> Tensor:
        keys = torch.cat([given.prefix_key, given.key])[order]
        values = torch.cat([given.prefix_value, given.value])[order]
        found = scaled_dot_product_attention(unequal(given.query, starts), unequal(keys, ends), unequal(values, ends))
        return found.transpose(1, 2).values()

    return _packed(work, attend)


def under_one_mask(work: Work) -> Run:
    """One row of everything, in which tokens see the prompt and their own row: through Foreword's seam as it is."""
    backbone = work.backbone()
    injection = work.injection(backbone)
    ids, places, owner = _one_row(work)
    mask = (owner[:, None] == owner[None])[None, None]  # (1, 1, S, S)

    @torch.inference_mode()
    def run() -> list[Tensor]:
        call = backbone.prefix_call(injection)
        hidden = backbone.trunk(input_ids=ids, position_ids=places, attention_mask=mask, **{KEYWORD: call})
        return list(hidden.last_hidden_state[0].split(work.lengths))

    return run


def _packed(work: Work, attend: Attend) -> Run:
    """A pass over one row of everything, whose attention is ``attend``."""
    backbone = work.backbone()
    injection = work.injection(backbone)
    ids, places, _ = _one_row(work)

    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **given: Any
    ) -> tuple[Tensor, None]:
        del mask
        call: PrefixCall = given[KEYWORD]
        prefix = call.prefix_at(module, query, key, value)
        assert prefix is not None
        parts = (part[0].transpose(0, 1) for part in (query, key, value, prefix.key, prefix.value))
        return attend(Parts(*parts))[None], None  # (1, S, H, E)

    name = f"trial-{id(attend)}"
    AttentionInterface.register(name, attention)
    AttentionMaskInterface.register(name, lambda *_, **__: None)
    backbone.model.set_attn_implementation(name)

    @torch.inference_mode()
    def run() -> list[Tensor]:
        hidden = backbone.trunk(input_ids=ids, position_ids=places, **{KEYWORD: backbone.prefix_call(injection)})
        return list(hidden.last_hidden_state[0].split(work.lengths))

    return run


def _one_row(work: Work) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids and positions of all rows, ``(1, S)`` each, and the number of the row of every token, ``(S,)``."""
    ids = torch.tensor([[token for row in work.rows for token in row.input_ids]])
    places = torch.cat([torch.arange(length) for length in work.lengths])[None]
    return ids, places, torch.arange(len(work.lengths)).repeat_interleave(torch.tensor(work.lengths))


TRIALS = {
    "Foreword, sorted batches": in_sorted_batches,
    "Foreword, one batch": as_it_is,
    "padded, sorted batches": padded_sorted,
    "padded, one batch": padded,
    "packed, attention row by row": row_by_row,
    "packed, one mask": under_one_mask,
    "packed, nested tensors": nested,
}
