"""ALBERT: one layer's weights used many times, so that the turn tells which layer it is.

`transformers` keeps all activations of an ALBERT. The layers are run here so that they need not be
kept, and so that a layer which is computed again knows which turn that is.

Source: Lan et al. 2020, 'ALBERT: A Lite BERT for Self-supervised Learning of Language
Representations', section 3.1 (cross-layer parameter sharing).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor
from transformers.masking_utils import create_bidirectional_mask

from foreword.backbones.attention import KEYWORD
from foreword.backbones.call import PrefixCall


def run(model: Any, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """Hidden states ``(B, T, D)`` of an `AlbertModel`."""
    names = ("input_ids", "inputs_embeds", "token_type_ids", "position_ids")
    embedded = model.embeddings(**{name: inputs.get(name) for name in names})
    mask = create_bidirectional_mask(
        config=model.config, inputs_embeds=embedded, attention_mask=inputs.get("attention_mask")
    )
    hidden: Tensor = model.encoder.embedding_hidden_mapping_in(embedded)
    order = list(_in_order(model))
    hidden, layers = call.running(order, hidden)
    for number, layer in layers:
        hidden = call.through(partial(_layer, layer, order[:number].count(layer), mask, call), hidden)
    return hidden


def _in_order(model: Any) -> Iterator[Any]:
    """The layers as they run; one that is shared comes several times."""
    groups, count = model.encoder.albert_layer_groups, model.config.num_hidden_layers
    for number in range(count):
        yield from groups[int(number / (count / len(groups)))].albert_layers


def _layer(layer: Any, turn: int, mask: Tensor | None, call: PrefixCall, hidden: Tensor) -> Tensor:
    call.take_turn(layer.attention, turn)
    out: Tensor = layer(hidden, mask, **{KEYWORD: call})
    return out
