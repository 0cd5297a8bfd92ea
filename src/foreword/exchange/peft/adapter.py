"""What is in an adapter, and which families of models PEFT and Foreword run alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from foreword.backbones import Backbone
from foreword.errors import ArtifactError
from foreword.tasks import NER, QA, Classification, Task

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
EMBEDDINGS, MODEL, POOLER = "prompt_embeddings", "base_model.", "bert.pooler.dense"
KINDS = ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")
TASK_TYPES: dict[str, type[Task[Any, Any]]] = {"SEQ_CLS": Classification, "TOKEN_CLS": NER, "QUESTION_ANS": QA}

_ROBERTAS = frozenset({"camembert", "roberta", "xlm-roberta"})
_DECODERS = frozenset({"gemma", "glm", "gpt2", "llama", "mistral", "qwen3"})
WITH_PREFIX = _ROBERTAS | _DECODERS | {"bert", "electra"}
"""Families whose `transformers` models take a cache, without which PEFT has no prefix."""

_OTHER_ENCODERS = frozenset({"albert", "deberta", "deberta-v2", "distilbert", "mpnet"})
WITH_VECTORS = WITH_PREFIX | _OTHER_ENCODERS | {"bart", "modernbert", "t5"}
"""Families whose `transformers` models take embeddings in the place of token ids."""

_WITH_TOKEN_HEAD = WITH_PREFIX | _OTHER_ENCODERS
"""Families whose head on tokens is one linear layer. (ModernBERT's has another before it.)"""


@dataclass(frozen=True)
class HeadNames:
    """What the head of a task is called in the `transformers` model of a family.

    Attributes:
        task_type: PEFT's word for the task.
        reads: every 'token', or one vector per row: of the 'first' token or the 'last'.
        layers: its linear layers, with tanh between them.
        modules: what PEFT is told to keep.
        biased: whether the layers have a bias.
    """

    task_type: str
    reads: Literal["token", "first", "last"]
    layers: tuple[str, ...]
    modules: tuple[str, ...]
    biased: bool = True


def head_names(task: Task[Any, Any], backbone: Backbone, *, vectors: bool) -> HeadNames | str:
    """The head that PEFT's model would have, or why ours cannot be it.

    Args:
        task: of ours.
        backbone: whose family decides; its numbers are of no interest.
        vectors: whether the prompt is vectors among the embeddings.
    """
    names = _head_names(task, backbone.family)
    if names is None:
        return f"'{backbone.family}' models have no head like that of the task '{task.name}'"
    if names.task_type == "QUESTION_ANS" and getattr(backbone.trunk.config, "type_vocab_size", 0) > 1:
        return "PEFT does not tell question from context (it drops the segment numbers), as ours does"
    if vectors and names.reads == "first":
        return "PEFT's model reads the prompt's first vector, not the text's first token"
    return names


def _head_names(task: Task[Any, Any], family: str) -> HeadNames | None:
    classifier = ("classifier", "score")
    match task:
        case QA(head="linear") if family in _WITH_TOKEN_HEAD - {"gemma", "glm"}:
            return HeadNames("QUESTION_ANS", "token", ("qa_outputs",), ("qa_outputs",))
        case NER() if family in _WITH_TOKEN_HEAD:
            name = "score" if family in _DECODERS - {"gpt2"} else "classifier"
            return HeadNames("TOKEN_CLS", "token", (name,), classifier)
        case Classification(head="pooled") if family in _DECODERS:
            return HeadNames("SEQ_CLS", "last", ("score",), classifier, biased=False)
        case Classification(head="pooled") if family in _ROBERTAS:
            return HeadNames("SEQ_CLS", "first", ("classifier.dense", "classifier.out_proj"), classifier)
        case Classification(head="pooled") if family == "bert":
            return HeadNames("SEQ_CLS", "first", (POOLER, "classifier"), (*classifier, "pooler"))
    return None


def check_prefix(backbone: Backbone, who: str) -> None:
    """Refuse a backbone on which PEFT's prefix would be another function than ours, or none.

    Raises:
        ArtifactError: beginning with ``who``.
    """
    family, window = backbone.family, getattr(backbone.trunk.config, "sliding_window", None)
    if family not in WITH_PREFIX:
        decoder = "it reaches only the decoder's own attention"
        reason = {"t5": decoder, "bart": decoder}.get(family, "these models take no cache")
        raise ArtifactError(f"{who}: PEFT has no prefix for '{family}' that could be exchanged: {reason}")
    if window is not None:
        raise ArtifactError(
            f"{who}: '{backbone.name}' attends within {window} positions; PEFT's prefix slides out of that window, "
            "and ours does not"
        )


def check_vectors(backbone: Backbone, who: str) -> None:
    """Refuse a backbone before whose text PEFT can put no vectors.

    Raises:
        ArtifactError: beginning with ``who``.
    """
    if backbone.family not in WITH_VECTORS:
        raise ArtifactError(f"{who}: PEFT puts no vectors before the text of '{backbone.family}' models")
