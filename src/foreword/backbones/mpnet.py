"""MPNet: BERT's layers with a bias for relative positions, the same in every layer.

Source: Song et al. 2020, 'MPNet: Masked and Permuted Pre-training for Language Understanding',
section 4.1 (relative position bias as in T5). A prefix stands nowhere, so it has none.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from foreword.attachment import detoured
from foreword.backbones.attention import KEYWORD, prefix_attention
from foreword.backbones.call import PrefixCall

FIRST_POSITION = 2  # written into the model's code, whatever the number of its padding token


def run(model: Any, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """Hidden states ``(B, T, D)`` of an `MPNetModel`."""
    names = ("input_ids", "inputs_embeds", "position_ids")
    hidden: Tensor = model.embeddings(**{name: inputs.get(name) for name in names})
    mask = inputs.get("attention_mask")
    if mask is not None:
        mask = mask.bool()[:, None, None, :].expand(-1, 1, hidden.shape[1], -1)  # (B, 1, T, T)
    bias = model.encoder.compute_position_bias(hidden[:1])  # (1, H, T, T)
    hidden, layers = call.running(model.encoder.layer, hidden)
    for number, layer in layers:
        hidden, seen = call.branched(number, hidden, mask)
        compute = detoured(layer, partial(_layer, layer, seen, bias, call))
        hidden = call.through(compute, call.entering(hidden, number))
    return hidden


def positions(config: Any) -> int:
    """How many tokens one row may have."""
    return int(config.max_position_embeddings) - FIRST_POSITION


def first_position(config: Any) -> int:
    """The number of the first position."""
    del config
    return FIRST_POSITION


def _layer(layer: Any, mask: Tensor | None, bias: Tensor, call: PrefixCall, hidden: Tensor) -> Tensor:
    attention = layer.attention.attn
    query, key, value = (
        projection(hidden).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)  # (B, H, T, E)
        for projection in (attention.q, attention.k, attention.v)
    )
    read, _ = prefix_attention(
        attention,
        query,
        key,
        value,
        mask,
        scaling=query.shape[-1] ** -0.5,
        position_bias=bias.to(query.dtype),
        is_causal=False,
        **{KEYWORD: call},
    )
    attended = layer.attention.LayerNorm(layer.attention.dropout(attention.o(read.flatten(2))) + hidden)
    out: Tensor = layer.output(layer.intermediate(attended), attended)
    return out
