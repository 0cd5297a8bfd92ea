"""The attention seam: one attention function that puts a prefix in front of any layer's keys.

`transformers` routes the attention of nearly every architecture through its attention interface.
Foreword registers one more function there. It is handed the call's `PrefixCall` as an ordinary
keyword that the model passes down to its attention layers, so nothing is patched, no global state
says which prompt is active, and gradient checkpointing recomputes with the same prompt.

Source: Li & Liang 2021, section 4; Liu et al. 2022 (P-Tuning v2), section 3.2. Unlike the authors'
code the prefix is not a cache, so text positions keep their own numbers (no shift by P) and no
length is taken from the text.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from foreword.injection import Injection, Site, SiteShape

NAME = "foreword"
KEYWORD = "foreword_call"


class PrefixCall:
    """What the attention layers of one forward pass need to know.

    Args:
        sites: which site each attention module is.
        injection: the prompts of the batch, or None for the bare backbone.
        dropout: attention dropout while training, whatever the checkpoint's own setting.
    """

    def __init__(self, sites: dict[nn.Module, Site], injection: Injection | None, dropout: float) -> None:
        self.sites = sites
        self.injection = injection
        self.dropout = dropout
        self._masks: dict[int, tuple[Tensor, Tensor]] = {}

    def mask(self, mask: Tensor, length: int, visible: Tensor | None) -> Tensor:
        """``mask`` with ``length`` columns in front, open where the prefix is visible.

        The layers of one pass share mask and prompt lengths, so the result is made once.
        """
        key = length if visible is None else -length
        known = self._masks.get(key)
        if known is not None and known[0] is mask and visible is None:
            return known[1]
        extended = extend_mask(mask, length, visible)
        self._masks[key] = (mask, extended)
        return extended


def extend_mask(mask: Tensor, length: int, visible: Tensor | None) -> Tensor:
    """Put ``length`` prefix columns in front of an attention mask.

    Args:
        mask: ``(B, 1 or H, T, S)``, boolean (True = may attend) or additive.
        length: P, columns to add.
        visible: ``(B, P)`` bool, or None when every row sees the whole prefix.

    Returns:
        ``(B, 1 or H, T, P + S)`` of the same dtype.
    """
    shape = (*mask.shape[:-1], length)
    if mask.dtype == torch.bool:
        front = mask.new_ones(shape) if visible is None else visible[:, None, None, :].expand(shape)
    else:
        front = mask.new_zeros(shape)
        if visible is not None:
            front = front.masked_fill(~visible[:, None, None, :], torch.finfo(mask.dtype).min)
    return torch.cat([front, mask], dim=-1)


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
        key, value: ``(B, H, S, E)`` of the text.
        attention_mask: ``(B, 1, T, S)`` or None when nothing is hidden.
        **kwargs: what the layer passes on, our `PrefixCall` among it.

    Returns:
        ``(B, T, heads, E)`` and None for the weights, which are never formed.
    """
    call: PrefixCall | None = kwargs.pop(KEYWORD, None)
    if call is not None:
        kwargs["dropout"] = call.dropout if module.training else 0.0
        prefix = None if call.injection is None else call.injection.at(call.sites[module])
        if prefix is not None:
            rows, length = key.shape[0], prefix.key.shape[2]
            key = torch.cat([prefix.key.to(key.dtype).expand(rows, -1, -1, -1), key], dim=2)
            value = torch.cat([prefix.value.to(value.dtype).expand(rows, -1, -1, -1), value], dim=2)
            if attention_mask is None and prefix.visible is not None:
                attention_mask = query.new_ones((rows, 1, query.shape[2], key.shape[2] - length), dtype=torch.bool)
            if attention_mask is not None:
                attention_mask = call.mask(attention_mask, length, prefix.visible)
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        return _attend_in_float32(module, query, key, value, attention_mask, **kwargs)
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)  # type: ignore[no-any-return]


def _attend_in_float32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention between bfloat16 layers, in float32.

    CPU attention with gradients is up to three times as slow in bfloat16 as in float32, casts included,
    most of all on short rows (benchmarks/cpu_kernels.py).
    """
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast("cpu", enabled=False):
        out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), attention_mask, **kwargs)
    return out.to(query.dtype), None


class _Probe:
    """Stands in for a `PrefixCall` once, to learn which modules attend and in what shape."""

    def __init__(self) -> None:
        self.seen: list[tuple[nn.Module, SiteShape]] = []


def _attention(module: nn.Module, query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
    call = kwargs.get(KEYWORD)
    if isinstance(call, _Probe):
        call.seen.append((module, SiteShape(key.shape[1], key.shape[3])))
        kwargs[KEYWORD] = None
    return prefix_attention(module, query, key, *args, **kwargs)


def find_sites(model: nn.Module) -> list[tuple[nn.Module, SiteShape]]:
    """The attention modules of an encoder, in the order in which they run, found by running it once.

    Asking the model itself, rather than a list of class names, is what keeps the seam free of
    families. An empty list means that the model does not use the attention interface.
    """
    probe = _Probe()
    ids = torch.zeros((1, 2), dtype=torch.long, device=next(model.parameters()).device)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **{KEYWORD: probe})
    model.train(was_training)
    return probe.seen


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
