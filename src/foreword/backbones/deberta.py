"""DeBERTa: attention that scores content and relative position apart.

A prefix stands nowhere, so its keys are scored by content alone; they share the scale
1/sqrt(E * (1 + kinds of position score)) with the keys of the text.

Source: He et al. 2021, 'DeBERTa: Decoding-enhanced BERT with Disentangled Attention', section 3.1,
equation 4. Zero position scores for a prefix as in the authors' code of P-Tuning v2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from foreword.attachment import detoured
from foreword.backbones.attention import KEYWORD, prefix_attention
from foreword.backbones.call import PrefixCall
from foreword.errors import BackboneError


class Relative(NamedTuple):
    """The relative positions of one forward pass.

    Attributes:
        table: ``(2 * span, D)``, embeddings of all distances.
        rows: ``(R,)``, which of them this pass needs.
        distance: ``(T, T)``; for a query and a key, which of ``rows`` theirs is.
    """

    table: Tensor
    rows: Tensor
    distance: Tensor


class Projected(NamedTuple):
    """What the attention of one layer computes with.

    Attributes:
        query, key, value: ``(B, H, T, E)``.
        position_key, position_query: ``(1, H, R, E)``, or None where the layer has no such score.
        kinds: how many kinds of position score the scale allows for.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    position_key: Tensor | None
    position_query: Tensor | None
    kinds: int


Project = Callable[[Any, Tensor, Tensor | None], Projected]
"""From an attention module, hidden states ``(B, T, D)`` and relative embeddings ``(1, R, D)``."""


class Pass(NamedTuple):
    """What the layers share in one forward pass.

    Attributes:
        mask: ``(B, 1, T, T)`` bool.
        relative: positions, or None for a model that has none.
        call: of this pass.
        project: the family's projections.
    """

    mask: Tensor
    relative: Relative | None
    call: PrefixCall
    project: Project


def run(model: Any, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """Hidden states ``(B, T, D)`` of a `DebertaModel`."""
    hidden, mask = embed(model, inputs)
    span = model.encoder.max_relative_positions if model.encoder.relative_attention else 0
    shared = Pass(for_all_queries(mask), relative_positions(model.encoder, hidden, span), call, _project)
    hidden, layers = call.running(model.encoder.layer, hidden)
    for number, layer in layers:
        hidden = run_layer(layer, number, hidden, shared)
    return hidden


def embed(model: Any, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """What the first layer is given, ``(B, T, D)``, zero at hidden positions; and ``(B, T)`` bool, the others."""
    wanted = ("input_ids", "inputs_embeds", "token_type_ids", "position_ids")
    mask = None if inputs.get("attention_mask") is None else inputs["attention_mask"].bool()
    hidden = model.embeddings(**{name: inputs.get(name) for name in wanted}, mask=mask)
    return hidden, hidden.new_ones(hidden.shape[:2], dtype=torch.bool) if mask is None else mask


def for_all_queries(mask: Tensor) -> Tensor:
    """A mask over keys, ``(B, T)``, as attention takes it: ``(B, 1, T, T)``."""
    return mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)


def relative_positions(encoder: Any, hidden: Tensor, span: int) -> Relative | None:
    """The relative positions of a row of T tokens, or None for a model that has none.

    Args:
        encoder: of the model.
        hidden: ``(B, T, D)``, of which only T counts.
        span: half the rows of the model's table.
    """
    if not encoder.relative_attention:
        return None
    table = encoder.get_rel_embedding()
    index = (encoder.get_rel_pos(hidden)[0] + span).clamp(0, 2 * span - 1)  # (T, T)
    length = hidden.shape[1]
    if 2 * length - 1 >= 2 * span:
        return Relative(table, torch.arange(2 * span, device=index.device), index)
    # A short text has few distances, and every layer projects the embeddings of each.
    distances = torch.cat([index[0, 1:].flip(0), index[:, 0]])  # (2T - 1,), from 1 - T to T - 1
    place = torch.arange(length, device=index.device)
    return Relative(table, distances, place[:, None] - place + length - 1)


def run_layer(layer: Any, number: int, hidden: Tensor, shared: Pass) -> Tensor:
    """One layer from what it is given, ``(B, T, D)`` without deltas; computed again where that is asked for."""
    call = shared.call
    hidden, mask = call.branched(number, hidden, shared.mask)
    compute = detoured(layer, partial(_layer, layer, shared._replace(mask=mask)))
    return call.through(compute, call.entering(hidden, number))


def _layer(layer: Any, shared: Pass, hidden: Tensor) -> Tensor:
    attention, relative = layer.attention.self, shared.relative
    embeddings = None
    if relative is not None:
        embeddings = attention.pos_dropout(relative.table)[relative.rows][None]  # (1, R, D)
    parts = shared.project(attention, hidden, embeddings)
    scaling = (parts.query.shape[-1] * (1 + parts.kinds)) ** -0.5
    read, _ = prefix_attention(
        attention,
        parts.query,
        parts.key,
        parts.value,
        shared.mask,
        scaling=scaling,
        position_bias=None if relative is None else _position_scores(parts, relative.distance, scaling),
        is_causal=False,
        **{KEYWORD: shared.call},
    )
    attended = layer.attention.output(read.flatten(2), hidden)
    out: Tensor = layer.output(layer.intermediate(attended), attended)
    return out


def _position_scores(parts: Projected, index: Tensor, scaling: float) -> Tensor | None:
    """Content-to-position and position-to-content scores, ``(B, H, T, T)``."""
    rows, heads, length, _ = parts.query.shape
    index = index.expand(rows, heads, length, length)
    scores = None
    if parts.position_key is not None:
        scores = (parts.query @ parts.position_key.transpose(-1, -2)).gather(-1, index)
    if parts.position_query is not None:
        by_key = (parts.key @ parts.position_query.transpose(-1, -2)).gather(-1, index.transpose(-1, -2))
        scores = by_key.transpose(-1, -2) if scores is None else scores + by_key.transpose(-1, -2)
    return None if scores is None else scores * scaling


def _project(attention: Any, hidden: Tensor, relative: Tensor | None) -> Projected:
    if attention.talking_head:
        raise BackboneError("DeBERTa with talking heads is not supported (talking_head in its config.json)")
    types = attention.pos_att_type
    query, key, value = split_heads(attention, attention.in_proj(hidden)).chunk(3, dim=-1)
    position_key = position_query = None
    if relative is not None and "c2p" in types:
        position_key = split_heads(attention, attention.pos_proj(relative))
    if relative is not None and "p2c" in types:
        position_query = split_heads(attention, attention.pos_q_proj(relative))
    query = query + split_heads(attention, attention.q_bias[None, None]).to(query.dtype)
    value = value + split_heads(attention, attention.v_bias[None, None]).to(value.dtype)
    return Projected(query, key, value, position_key, position_query, len(types))


def split_heads(attention: Any, states: Tensor) -> Tensor:
    """``(B, T, H * E)`` as ``(B, H, T, E)``."""
    return states.reshape(*states.shape[:-1], attention.num_attention_heads, -1).transpose(1, 2)


def transform(model: Any, hidden: Tensor) -> Tensor:
    """What the output embeddings of the masked language model read, ``(..., D)``; for v1 and v2."""
    if model.legacy:
        out: Tensor = model.cls.predictions.transform(hidden)
        return out
    head = model.lm_predictions.lm_head
    normed: Tensor = head.LayerNorm(head.transform_act_fn(head.dense(hidden)))
    return normed


def project(model: Any, hidden: Tensor) -> Tensor:
    """Logits ``(..., V)`` from what `transform` gave."""
    if model.legacy:
        out: Tensor = model.cls.predictions.decoder(hidden)
        return out
    words: nn.Embedding = model.deberta.embeddings.word_embeddings
    return linear(hidden, words.weight, model.lm_predictions.lm_head.bias)
