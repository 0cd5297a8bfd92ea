"""The table of supported families: what cannot be asked of a model and must be known.

Everything else (layers, heads, sizes) is found by running the model once, so a family that
`transformers` routes through its attention interface needs one line here and its tests. A family
that computes attention itself has a file of its own, named in its line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from torch.nn.functional import gelu

from foreword.backbones.attention import KEYWORD, PrefixCall

Kind = Literal["encoder", "decoder", "encoder-decoder", "image"]
Run = Callable[[Any, dict[str, Any], PrefixCall], Tensor]
Vocabulary = Callable[[Any, Tensor], Tensor]


def run_interface(model: Any, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """Hidden states ``(B, S, D)`` of a model whose attention runs through the interface of transformers."""
    hidden: Tensor = model(**inputs, **{KEYWORD: call}).last_hidden_state
    return hidden


def _all_positions(config: Any) -> int:
    return int(config.max_position_embeddings)


def _positions_after_padding(config: Any) -> int:
    # RoBERTa numbers positions from padding_idx + 1, so the table's first rows are never text.
    return int(config.max_position_embeddings) - int(config.pad_token_id) - 1


def _first(config: Any) -> int:
    del config
    return 0


def _first_after_padding(config: Any) -> int:
    return int(config.pad_token_id) + 1


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
        transform, project: from the language model and hidden states ``(..., D)`` to what its output
            embeddings read, and from there to logits ``(..., V)``; None where there is no such head.
    """

    summary: str
    kind: Kind = "encoder"
    positions: Callable[[Any], int] = _all_positions
    first_position: Callable[[Any], int] = _first
    options: tuple[tuple[str, Any], ...] = ()
    run: Run = run_interface
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


def _roberta(summary: str) -> Family:
    return Family(
        summary,
        positions=_positions_after_padding,
        first_position=_first_after_padding,
        options=_NO_POOLER,
        transform=_roberta_transform,
        project=_roberta_project,
    )


FAMILIES: dict[str, Family] = {
    "bert": Family(
        "BERT and its kin (MiniLM, TinyBERT, BioBERT, ...)",
        options=_NO_POOLER,
        transform=_bert_transform,
        project=_bert_project,
    ),
    "roberta": _roberta("RoBERTa and its kin"),
    "xlm-roberta": _roberta("XLM-RoBERTa, 100 languages"),
    "camembert": _roberta("CamemBERT, French RoBERTa"),
    "electra": Family("ELECTRA discriminators, also with narrow embeddings"),
}
