"""Classification of single texts and of text pairs.

Source: Liu et al. 2022, section 3.3 ('Classification Head') and table 4: a randomly initialized head
on the encoder's output, or a language model's own head and a verbalizer. Learned verbalizers are of
Hambardzumyan et al. 2021 (WARP), section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import TextExample
from foreword.data.records import Record
from foreword.errors import TaskError
from foreword.heads import (
    Head,
    LearnedVerbalizerHead,
    PooledHead,
    Pooling,
    VerbalizerHead,
    Vocabulary,
    class_vectors,
)
from foreword.metrics.classification import Main, classification_scores, parts_of
from foreword.metrics.scores import Scores
from foreword.tasks.base import Encoding, Task
from foreword.tasks.cloze import Cloze, check_words
from foreword.tasks.labels import check_known, check_label, in_order, label_name
from foreword.tasks.texts import TextColumns, encode_texts


@dataclass(frozen=True, slots=True)
class LabelPrediction:
    """A label and the probability of every label, in [0, 1]."""

    label: str
    probabilities: Mapping[str, float]


class ClassificationColumns(TextColumns):
    """Which fields hold what."""

    label: str = "label"
    """The label: any text, whole number or truth value."""


class Classification(Task[TextExample, LabelPrediction]):
    """One label per text, or per pair of texts."""

    name: ClassVar[str] = "classification"
    summary: ClassVar[str] = "one label for a text or a pair of texts; accuracy, F1"

    columns: ClassificationColumns = ClassificationColumns()
    """Names of the fields in the user's files."""
    head: Literal["pooled", "verbalizer", "learned-verbalizer"] = "pooled"
    """A class head on 'pooled' hidden states; or of a language model, its logits of one word per label
    ('verbalizer', nothing trained), or trained vectors in the place of those words ('learned-verbalizer')."""
    template: str | None = Field(default=None, validate_default=True)
    """For verbalizers: '{text}', and '{pair}' if there is one, with words around, such as '{text} It was {mask}.';
    decoders answer with the word after the template's end, so theirs has no '{mask}'."""
    verbalizer: dict[str, str] | None = Field(default=None, validate_default=True)
    """For verbalizers: label -> word, one token each. Learned ones start there, or at random for labels left out."""
    pooling: Pooling = "mean"
    """Read the 'mean' of the tokens, the 'first' one ([CLS]), or the 'last' one, as decoders need."""
    hidden_layer: bool = False
    """Whether the head has a trained tanh layer (D x D) before its linear one, as BERT's pooler."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the head."""
    positive: str | None = None
    """The label that counts as found, such as '1' for paraphrases: adds its own F1 to the scores."""
    main: Main = "accuracy"
    """The score to select the best weights by; 'f1' is that of the positive label, 'and' the mean of two scores."""

    @field_validator("template")
    @classmethod
    def _template_fits(cls, template: str | None, info: ValidationInfo) -> str | None:
        if "head" not in info.data or "columns" not in info.data:
            return template  # what is wrong with those is told already
        head, paired = info.data["head"], info.data["columns"].pair is not None
        if head == "pooled" and template is not None:
            raise ValueError("is for verbalizers; with head = 'pooled' the text stands alone")
        if head != "pooled" and template is None:
            raise ValueError(f"is needed with head = '{head}', such as '{{text}} It was {{mask}}.'")
        if template is not None and Cloze(template).paired != paired:
            raise ValueError(
                "expected {pair} for the second text" if paired else "{pair} needs its field, columns.pair"
            )
        return template

    @field_validator("verbalizer")
    @classmethod
    def _verbalizer_fits(cls, words: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        if "head" not in info.data or "labels" not in info.data:
            return words
        head, labels = info.data["head"], info.data["labels"]
        if head == "pooled" and words is not None:
            raise ValueError("is for verbalizers; with head = 'pooled' no words are compared")
        if head == "verbalizer" and not words:
            raise ValueError("is needed with head = 'verbalizer': a word for every label")
        check_words(words or {}, labels, every=head == "verbalizer")
        return words

    @field_validator("pooling", "hidden_layer", "dropout")
    @classmethod
    def _has_a_meaning(cls, value: Any, info: ValidationInfo) -> Any:
        head, name = info.data.get("head"), info.field_name or ""
        idle = head == "verbalizer" or (head == "learned-verbalizer" and name != "dropout")
        if idle and value != cls.model_fields[name].default:
            raise ValueError(f"has no meaning with head = '{head}'; leave it out")
        return value

    @field_validator("positive")
    @classmethod
    def _positive_is_a_label(cls, positive: str | None, info: ValidationInfo) -> str | None:
        if positive is not None and info.data.get("labels") is not None:
            check_label(positive, info.data["labels"])
        return positive

    @field_validator("main")
    @classmethod
    def _main_is_there(cls, main: Main, info: ValidationInfo) -> Main:
        if "f1" in parts_of(main) and info.data.get("positive", "") is None:
            raise ValueError("needs task.positive, the label whose F1 is meant")
        return main

    @property
    def _cloze(self) -> Cloze | None:
        return None if self.template is None else Cloze(self.template)

    @property
    def needs_language_model(self) -> bool:
        """Whether the head reads the vocabulary."""
        return self.head != "pooled"

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[TextExample]:
        """One example per record."""
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> TextExample:
        label = None
        if labelled or self.columns.label in record.fields:
            label = _label_text(record, self.columns.label)
        return TextExample(**self.columns.texts(record, number), label=label)

    def with_labels_from(self, examples: Sequence[TextExample]) -> Self:
        """All labels that occur, sorted; numbers by value."""
        if self.labels is not None:
            return self
        labels = in_order(example.label for example in examples if example.label is not None)
        try:
            check_words(self.verbalizer or {}, labels, every=self.head == "verbalizer")
        except ValueError as error:
            raise TaskError(f"task.verbalizer: {error}") from error
        if self.positive is not None and self.positive not in labels:
            raise TaskError(f"task.positive: '{self.positive}' is no label. Labels: {', '.join(labels)}")
        return self.model_copy(update={"labels": labels})

    def check_labels(self, records: Sequence[Record], examples: Sequence[TextExample]) -> None:
        """Refuse a label that training never saw."""
        given = [() if example.label is None else (example.label,) for example in examples]
        check_known(records, given, self.labels or (), self.columns.label)

    def encode(self, example: TextExample, tokenizer: Any, max_length: int) -> Encoding:
        """One row; a text that is too long loses its end, the longer of a pair first."""
        targets = {}
        if example.label is not None and self.labels is not None and example.label in self.labels:
            targets["label"] = self.labels.index(example.label)
        if (cloze := self._cloze) is not None:
            named = {"text": example.text} | ({} if example.pair is None else {"pair": example.pair})
            return cloze.encode(named, targets, tokenizer, max_length)
        return encode_texts(example.texts, targets, tokenizer, max_length)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """One output per label, out of pooled hidden states or of what a language model says in the template's gap.

        Raises:
            BackboneError: the head reads a vocabulary, and the backbone has none.
            TaskError: template or words do not fit the backbone.
        """
        labels, cloze = self.labels or (), self._cloze
        if cloze is None:
            return PooledHead(
                hidden_size,
                len(labels),
                pooling=self.pooling,
                hidden_layer=self.hidden_layer,
                dropout=self.dropout,
            )
        model = cloze.check_backbone(vocabulary, f"task.head = '{self.head}'")
        answers = cloze.answers(self.verbalizer or {}, model.tokenizer)
        if self.head == "verbalizer":
            return VerbalizerHead([answers[label] for label in labels])
        start = class_vectors([answers.get(label) for label in labels], model.output_embeddings)
        return LearnedVerbalizerHead(start, dropout=self.dropout)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over rows; ``logits`` is ``(B, C)``."""
        return torch.nn.functional.cross_entropy(logits.float(), targets["label"])

    def decode(self, example: TextExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> LabelPrediction:
        """The most probable label."""
        del example, rows
        probabilities = logits[0].softmax(-1).tolist()
        named = dict(zip(self.labels or (), probabilities, strict=True))
        return LabelPrediction(max(named, key=named.__getitem__), named)

    def score(self, examples: Sequence[TextExample], predictions: Sequence[LabelPrediction]) -> Scores:
        """Accuracy and F1."""
        gold, found = [e.label or "" for e in examples], [p.label for p in predictions]
        return classification_scores(gold, found, positive=self.positive, main=self.main)

    def to_json(self, example: TextExample, prediction: LabelPrediction) -> dict[str, Any]:
        """Label, its probability, and those of all labels."""
        return {
            "id": example.id,
            "label": prediction.label,
            "probability": round(prediction.probabilities[prediction.label], 6),
            "probabilities": {label: round(p, 6) for label, p in prediction.probabilities.items()},
        }

    def answer_key(self, prediction: LabelPrediction) -> str:
        """The label."""
        return prediction.label


def _label_text(record: Record, field: str) -> str:
    value = record.value(field)
    if (label := label_name(value)) is None:
        raise record.error(f"expected a label (text, whole number or truth value), found {value!r:.60}", field=field)
    return label
