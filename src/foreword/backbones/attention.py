"""The attention seam: one attention function that puts a prefix in front of any layer's keys.

`transformers` routes the attention of nearly every architecture through its attention interface.
Foreword registers one more function there. It is handed the call's `PrefixCall` as an ordinary
keyword that the model passes down to its attention layers, so nothing is patched, no global state
says which prompt is active, and gradient checkpointing recomputes with the same prompt.

Source: Li & Liang 2021, section 4; Liu et al. 2022 (P-Tuning v2), section 3.2. Unlike the authors'
code the prefix is not a cache, so text positions keep their own numbers (no shift by P, unless the
prompt asks for it) and no length is taken from the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from foreword.backbones.call import PrefixCall
from foreword.backbones.cpu_attention import attend_in_chunks, suits, to_be_added
from foreword.injection import KeyValue, Prefix, Site, SitePrefix, SiteShape

NAME = "foreword"
KEYWORD = "foreword_call"


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention over ``[prefix; text]``.

    Args:
        module: the attention layer that calls, which tells the site.
        query: ``(B, heads, T, E)``.
        key, value: ``(B, H, S, E)`` of the text, a generation's cache included.
        attention_mask: ``(B, 1, T, S)`` or None when nothing is hidden but what causality hides.
        **kwargs: what the layer passes on, our `PrefixCall` among it.

    Returns:
        ``(B, T, heads, E)`` and None for the weights, which are never formed.
    """
    call: PrefixCall | None = kwargs.pop(KEYWORD, None)
    if call is None:
        return _attend(module, query, key, value, attention_mask, **kwargs)
    if call.packing is None:
        return _read_prefix(module, query, key, value, attention_mask, call=call, **kwargs), None
    # (1, H, N, E) of all rows behind each other: here each has its own keys
    query, key, value = (call.packing.back(one.transpose(1, 2)).transpose(1, 2) for one in (query, key, value))
    out = _read_prefix(module, query, key, value, call.packing.attention_mask, call=call, **kwargs)
    return call.packing.into(out), None


def _read_prefix(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    call: PrefixCall,
    **kwargs: Any,
) -> Tensor:
    """`prefix_attention` in a known call: ``(B, T, heads, E)``."""
    kwargs["call"] = call
    kwargs["dropout"] = call.dropout if module.training else 0.0
    prefix = call.prefix_at(module, query, key, value)
    if prefix is None:
        return _attend(module, query, key, value, attention_mask, **kwargs)[0]
    if attention_mask is None:
        attention_mask = _causal_mask(module, query, key, call.past, kwargs)
    beside = None
    if prefix.gate is not None:
        beside = _gated(module, query, prefix, **kwargs)
        prefix = _ungated(prefix)
    prefix = call.behind_the_text(prefix, query)
    rows, length = key.shape[0], prefix.key.shape[2]
    if attention_mask is None and prefix.visible is not None:
        attention_mask = query.new_ones((rows, 1, query.shape[2], key.shape[2]), dtype=torch.bool)
    if attention_mask is not None:
        attention_mask = call.mask(attention_mask, prefix)
    key = torch.cat([prefix.key.to(key.dtype).expand(rows, -1, -1, -1), key], dim=2)
    value = torch.cat([prefix.value.to(value.dtype).expand(rows, -1, -1, -1), value], dim=2)
    if kwargs.get("position_bias") is not None:  # T5's: a prefix stands nowhere, so it has none
        kwargs["position_bias"] = nn.functional.pad(kwargs["position_bias"], (length, 0))
    kwargs["is_causal"] = False  # said by the mask, since every query sees the whole prefix
    out, _ = _attend(module, query, key, value, attention_mask, **kwargs)
    return out if beside is None else out + beside


def _causal_mask(module: nn.Module, query: Tensor, key: Tensor, past: int, kwargs: Mapping[str, Any]) -> Tensor | None:
    """The mask that a causal layer means by giving none; a cache of fixed size has keys that are yet to come."""
    new, all_ = query.shape[2], key.shape[2]
    if new == 1 or not _is_causal(module, kwargs):
        return None
    return torch.ones((1, 1, new, all_), dtype=torch.bool, device=query.device).tril(past)


def _gated(module: nn.Module, query: Tensor, prefix: SitePrefix, **kwargs: Any) -> Tensor:
    """What a gated prefix adds, ``(B, T, heads, E)``: its own softmax, times tanh of the gate.

    Source: Zhang et al. 2023 (LLaMA-Adapter), section 3.2, per head.
    """
    rows = query.shape[0]
    key, value = (part.to(query.dtype).expand(rows, -1, -1, -1) for part in (prefix.key, prefix.value))
    mask = None
    if prefix.visible is not None:
        # A row that reads nothing here sees one position all the same, lest its softmax be over nothing.
        none = ~prefix.visible.any(1, keepdim=True)
        mask = (prefix.visible | none)[:, None, None, :].expand(rows, 1, query.shape[2], -1)
    kwargs |= {"position_bias": None, "is_causal": False, "call": None}
    read, _ = _attend(module, query, key, value, mask, **kwargs)
    assert prefix.gate is not None
    return read * torch.tanh(prefix.gate).to(read.dtype)[:, None, :, None]


def _ungated(prefix: SitePrefix) -> SitePrefix:
    """The same prefix, hidden from the softmax of the text in every row that has a gate."""
    assert prefix.gated is not None
    shape = (prefix.gated.shape[0], prefix.key.shape[2])
    visible = (
        torch.ones(shape, dtype=torch.bool, device=prefix.key.device) if prefix.visible is None else prefix.visible
    )
    return SitePrefix(prefix.key, prefix.value, visible & ~prefix.gated[:, None])


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    call: PrefixCall | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers has it, the quicker way where there is one (`cpu_attention`).

    What is left to it in bfloat16 on a CPU, if gradients are wanted, is computed in float32: it is up to three times as
    slow in bfloat16 (benchmarks/cpu_kernels.py).
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # rotations leave some of them in float32
        query, key, value = (one.to(torch.get_autocast_dtype("cpu")) for one in (query, key, value))
    dropout = kwargs.get("dropout", 0.0)
    causal = mask is None and query.shape[2] > 1 and _is_causal(module, kwargs)
    plain = not causal and all(kwargs.get(name) is None for name in ("position_bias", "softcap", "cache"))
    if plain and suits(query, key, mask, dropout):
        if mask is not None:
            mask = to_be_added(mask, query.dtype) if call is None else call.added(mask, query.dtype)
        lengths = None if call is None or call.packing is None else call.packing.lengths
        out = attend_in_chunks(query, key, value, mask, scaling=kwargs.get("scaling"), dropout=dropout, lengths=lengths)
        return out, None
    if not (query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()):
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)  # type: ignore[no-any-return]
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = kwargs["position_bias"].float()
    with torch.autocast("cpu", enabled=False):
        out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **kwargs)
    return out.to(query.dtype), None


def _is_causal(module: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    """Whether a layer that gives no mask means that no position sees those behind it."""
    causal = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if causal is None else causal)


class Found(NamedTuple):
    """One turn of an attention module in a model's forward pass.

    Attributes:
        module: the attention module.
        shape: sizes of the prefix it could read.
        queries, keys: how many there were, which tells self-attention from attention to another stack.
        key, value: those of the text, ``(H, S, E)``, of the first row.
    """

    module: nn.Module
    shape: SiteShape
    queries: int
    keys: int
    key: Tensor
    value: Tensor


class Probe(PrefixCall):
    """Stands in for a `PrefixCall` to learn which modules attend, in what shape, and to what."""

    def __init__(self) -> None:
        super().__init__({}, None)
        self.found: list[Found] = []

    def prefix_at(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Note the call; nothing is read."""
        shape = SiteShape(key.shape[1], key.shape[3], query.shape[1])
        self.found.append(Found(module, shape, query.shape[2], key.shape[2], key[0].detach(), value[0].detach()))

    def activations(self, sites: Sequence[Site]) -> Prefix:
        """Keys and values of the text that ran, by site."""
        return {site: KeyValue(one.key.clone(), one.value.clone()) for site, one in zip(sites, self.found, strict=True)}


AttentionInterface.register(NAME, prefix_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
