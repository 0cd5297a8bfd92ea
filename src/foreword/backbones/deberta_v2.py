"""DeBERTa-v2 and v3: relative positions in buckets, projections that may be shared, a convolution.

Source: He et al. 2021, 'DeBERTaV3', and the appendix on version 2 of 'DeBERTa'. Prefixes as in
`foreword.backbones.deberta`; the convolution beside the first layer reads text positions only.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from foreword.backbones.call import PrefixCall
from foreword.backbones.deberta import (
    Pass,
    Projected,
    embed,
    for_all_queries,
    relative_positions,
    run_layer,
    split_heads,
)


def run(model: Any, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """Hidden states ``(B, T, D)`` of a `DebertaV2Model`."""
    encoder = model.encoder
    hidden, mask = embed(model, inputs)
    shared = Pass(for_all_queries(mask), relative_positions(encoder, hidden, _span(encoder)), call, _project)
    hidden, layers = call.running(encoder.layer, hidden)
    for number, layer in layers:
        given, hidden = hidden, run_layer(layer, number, hidden, shared)
        if number == 0 and encoder.conv is not None:
            hidden = encoder.conv(call.entering(given, 0), hidden, mask.long())
    return hidden


def _span(encoder: Any) -> int:
    if not encoder.relative_attention:
        return 0
    return int(encoder.position_buckets if encoder.position_buckets > 0 else encoder.max_relative_positions)


def _project(attention: Any, hidden: Tensor, relative: Tensor | None) -> Projected:
    types = attention.pos_att_type
    query, key, value = (
        split_heads(attention, projection(hidden))
        for projection in (attention.query_proj, attention.key_proj, attention.value_proj)
    )
    position_key = position_query = None
    if relative is not None and "c2p" in types:
        projection = attention.key_proj if attention.share_att_key else attention.pos_key_proj
        position_key = split_heads(attention, projection(relative))
    if relative is not None and "p2c" in types:
        projection = attention.query_proj if attention.share_att_key else attention.pos_query_proj
        position_query = split_heads(attention, projection(relative))
    kinds = ("c2p" in types) + ("p2c" in types)
    return Projected(query, key, value, position_key, position_query, kinds)
