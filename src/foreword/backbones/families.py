"""The table of supported families: what cannot be asked of a model and must be known.

Everything else (layers, heads, sizes) is found by running the model once, so a family that
`transformers` routes through its attention interface needs one line here and its tests. A family
that computes attention itself has a file of its own, named in its line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import gelu

from foreword.backbones import albert, deberta, deberta_v2, mpnet
from foreword.backbones.attention import KEYWORD
from foreword.backbones.call import PrefixCall

Kind = Literal["encoder", "decoder", "encoder-decoder", "image"]
Run = Callable[[Any, dict[str, Any], PrefixCall], Tensor]
Vocabulary = Callable[[Any, Tensor], Tensor]


def run_interface(model: Any, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """Hidden states ``(B, S, D)`` of a model whose attention runs through the interface of transformers."""
    hidden: Tensor = model(**inputs, **{KEYWORD: call}).last_hidden_state
    return hidden


def run_decoder(model: Any, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """`run_interface` of a model that would keep a cache for the tokens to come, if it were not told otherwise."""
    return run_interface(model, inputs | {"use_cache": False}, call)


def hand_on(layer: Any, states: Tensor, given: Sequence[Any]) -> Tensor:
    """What nearly all layers give: hidden states alone."""
    del layer, given
    return states


def _all_positions(config: Any) -> int:
    return int(config.max_position_embeddings)


def _positions_after_padding(config: Any) -> int:
    # RoBERTa numbers positions from padding_idx + 1, so the table's first rows are never text.
    return int(config.max_position_embeddings) - int(config.pad_token_id) - 1


def _any_number_of_positions(config: Any) -> int:
    # T5 knows distances only, so what ends a row is the length its tokenizer was made for.
    del config
    return 1 << 30


def _patches(config: Any) -> int:
    (height, width), (tall, wide) = _pair(config.image_size), _pair(config.patch_size)
    return (height // tall) * (width // wide) + 1  # and the class token


def image_shape(config: Any) -> tuple[int, int, int]:
    """Channels, height and width of the images a model reads."""
    return (int(config.num_channels), *_pair(config.image_size))


def _pair(size: Any) -> tuple[int, int]:
    high, wide = (size, size) if isinstance(size, int) else size
    return int(high), int(wide)


def _first(config: Any) -> int:
    del config
    return 0


def _first_after_padding(config: Any) -> int:
    return int(config.pad_token_id) + 1


def _numbered(config: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    del config
    mask = inputs["attention_mask"]
    return torch.arange(mask.shape[1], device=mask.device)[None]


def _numbered_after_padding(config: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    # Tokens that a text has of the padding's kind do not count, as in the model's own code.
    counted = (inputs["input_ids"] != config.pad_token_id).long()
    numbers: Tensor = counted.cumsum(1) * counted + int(config.pad_token_id)
    return numbers


@dataclass(frozen=True)
class Family:
    """One family of backbones.

    Attributes:
        summary: one line for `foreword backbones`.
        kind: what it reads and writes. Of an encoder-decoder, tasks with a head of their own use the encoder.
        positions: from a `transformers` config, how many tokens one row may have.
        first_position: the number of the first position, where positions are numbers in a table.
        options: keywords for `AutoModel.from_pretrained`.
        run: hidden states from a model, its inputs and a call.
        branches: whether rows may share layers (`foreword.backbones.branching`), which ``run`` must not look at.
        runs_layers: whether ``run`` goes through the layers itself, gradient checkpointing included, or the model does.
        numbered: position of every token ``(B or 1, S)`` from a config and inputs, where all but attention works token
            by token, so that padding can be left out (`foreword.backbones.packing`); None where it does not.
        hand_on: what a layer gives, from it, hidden states ``(B, S, D)`` and what it is given, where it need not run
            (`foreword.backbones.cutting`).
        transform, project: from the language model and hidden states ``(..., D)`` to what its output
            embeddings read, and from there to logits ``(..., V)``; None where there is no such head.
    """

    summary: str
    kind: Kind = "encoder"
    positions: Callable[[Any], int] = _all_positions
    first_position: Callable[[Any], int] = _first
    options: tuple[tuple[str, Any], ...] = ()
    run: Run = run_interface
    branches: bool = True
    runs_layers: bool = False
    numbered: Callable[[Any, Mapping[str, Tensor]], Tensor] | None = None
    hand_on: Callable[[Any, Tensor, Sequence[Any]], Any] = hand_on
    transform: Vocabulary | None = None
    project: Vocabulary | None = None


# The poolers of these models are left out: prompts are read by heads of our own, and an untrained
# or unrelated pooler is never used frozen by accident.
_NO_POOLER = (("add_pooling_layer", False),)


def _bert_transform(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.cls.predictions.transform(hidden)
    return out


def _bert_project(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.cls.predictions.decoder(hidden)
    return out


def _roberta_transform(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.lm_head.layer_norm(gelu(model.lm_head.dense(hidden)))
    return out


def _roberta_project(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.lm_head.decoder(hidden)
    return out


def _albert_transform(model: Any, hidden: Tensor) -> Tensor:
    head = model.predictions
    out: Tensor = head.LayerNorm(head.activation(head.dense(hidden)))
    return out


def _albert_project(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.predictions.decoder(hidden)
    return out


def _distilbert_transform(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
    return out


def _distilbert_project(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.vocab_projector(hidden)
    return out


def _modernbert_transform(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.head(hidden)
    return out


def _modernbert_project(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.decoder(hidden)
    return out


def _roberta(summary: str) -> Family:
    return Family(
        summary,
        positions=_positions_after_padding,
        first_position=_first_after_padding,
        options=_NO_POOLER,
        numbered=_numbered_after_padding,
        transform=_roberta_transform,
        project=_roberta_project,
    )


def _unchanged(model: Any, hidden: Tensor) -> Tensor:
    del model
    return hidden


def _t5_hand_on(layer: Any, states: Tensor, given: Sequence[Any]) -> tuple[Tensor, Tensor, None]:
    """With the bias of relative positions, which the first block makes for all."""
    bias, length = given[2], states.shape[1]
    return states, layer.layer[0].SelfAttention.compute_bias(length, length) if bias is None else bias, None


def _t5_transform(model: Any, hidden: Tensor) -> Tensor:
    # T5 shares its output embeddings with the input and scales what they read; T5 1.1 does neither.
    config = model.config
    scales = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    return hidden * config.d_model**-0.5 if scales else hidden


def _project(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = model.lm_head(hidden)
    return out


def _bart_project(model: Any, hidden: Tensor) -> Tensor:
    out: Tensor = _project(model, hidden) + model.final_logits_bias
    return out


def _decoder(summary: str) -> Family:
    return Family(summary, kind="decoder", run=run_decoder, transform=_unchanged, project=_project)


FAMILIES: dict[str, Family] = {
    "bert": Family(
        "BERT and its kin (MiniLM, TinyBERT, BioBERT, ...)",
        options=_NO_POOLER,
        numbered=_numbered,
        transform=_bert_transform,
        project=_bert_project,
    ),
    "roberta": _roberta("RoBERTa and its kin"),
    "xlm-roberta": _roberta("XLM-RoBERTa, 100 languages"),
    "camembert": _roberta("CamemBERT, French RoBERTa"),
    "electra": Family("ELECTRA discriminators, also with narrow embeddings", numbered=_numbered),
    "albert": Family(
        "ALBERT, layers with shared weights",
        options=_NO_POOLER,
        run=albert.run,
        runs_layers=True,
        transform=_albert_transform,
        project=_albert_project,
    ),
    "distilbert": Family("DistilBERT", transform=_distilbert_transform, project=_distilbert_project),
    "modernbert": Family(
        "ModernBERT, rotary positions, local and global attention",
        transform=_modernbert_transform,
        project=_modernbert_project,
    ),
    "mpnet": Family(
        "MPNet and its sentence encoders",
        positions=mpnet.positions,
        first_position=mpnet.first_position,
        options=_NO_POOLER,
        run=mpnet.run,
        runs_layers=True,
        transform=_roberta_transform,
        project=_roberta_project,
    ),
    "deberta": Family(
        "DeBERTa, the first version",
        run=deberta.run,
        runs_layers=True,
        transform=deberta.transform,
        project=deberta.project,
    ),
    "deberta-v2": Family(
        "DeBERTa-v2 and DeBERTa-v3",
        run=deberta_v2.run,
        runs_layers=True,
        transform=deberta.transform,
        project=deberta.project,
    ),
    "gpt2": _decoder("GPT-2 and its kin"),
    "llama": _decoder("Llama, and what shares its architecture"),
    "qwen3": _decoder("Qwen3, dense"),
    "mistral": _decoder("Mistral, also with a sliding window"),
    "gemma": _decoder("Gemma, the first generation"),
    "glm": _decoder("GLM-4, dense"),
    "t5": Family(
        "T5, and T5 1.1 with its kin (LM-adapted T5, Flan-T5)",
        kind="encoder-decoder",
        positions=_any_number_of_positions,
        hand_on=_t5_hand_on,
        transform=_t5_transform,
        project=_project,
    ),
    "bart": Family("BART", kind="encoder-decoder", transform=_unchanged, project=_bart_project),
    # Attention in CLIP's text tower is causal, so the last token is the one that has read the text.
    "clip_text_model": Family("CLIP's text tower", kind="decoder", branches=False),
    "clip_vision_model": Family("CLIP's vision tower", kind="image", positions=_patches),
    "vit": Family("ViT", kind="image", positions=_patches, options=_NO_POOLER),
}
