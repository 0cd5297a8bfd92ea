"""Multi-label classification: any number of labels, also none, for a text or for a pair of texts.

Every label is a yes-or-no question of its own, with a sigmoid and binary cross-entropy. A label is given where its
probability reaches one threshold for all labels, which is chosen on the dev data unless it is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import LabelsExample
from foreword.data.records import Record
from foreword.errors import TaskError
from foreword.heads import Head, Vocabulary
from foreword.metrics.multi_label import label_set_scores
from foreword.metrics.scores import Scores
from foreword.metrics.threshold import DEFAULT_THRESHOLD, best_threshold
from foreword.tasks.base import Encoding, Task
from foreword.tasks.making.labels import check_known, in_order, label_name
from foreword.tasks.making.pooled import Pooled
from foreword.tasks.making.texts import TextColumns, encode_texts

Probabilities = Mapping[str, float]
"""Of every label, in [0, 1]; they need not add up to 1."""


class MultiLabelColumns(TextColumns):
    """Which fields hold what."""

    labels: str = "labels"
    """A list of labels, or with task.separator a text that holds them all. An empty one says that there are none."""


class MultiLabel(Pooled, Task[LabelsExample, Probabilities]):
    """Any number of labels per text, or per pair of texts."""

    name: ClassVar[str] = "multi-label"
    summary: ClassVar[str] = "any number of labels for a text or a pair of texts; micro F1, macro F1, subset accuracy"

    columns: MultiLabelColumns = MultiLabelColumns()
    """Names of the fields in the user's files."""
    separator: str | None = Field(default=None, min_length=1)
    """What separates labels that stand in one text, as csv and tsv need: ',' or '|', say."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Labels of at least this probability are given. Chosen on the dev data, for micro F1, when left out."""

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[LabelsExample]:
        """One example per record."""
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> LabelsExample:
        labels = None
        if labelled or record.has(self.columns.labels):
            labels = self._labels(record)
        return LabelsExample(**self.columns.texts(record, number), labels=labels)

    def _labels(self, record: Record) -> tuple[str, ...]:
        field = self.columns.labels
        value = record.value(field)
        if isinstance(value, str):
            if self.separator is None:
                raise record.error(
                    f"expected a list of labels, found the text {value!r:.60}",
                    field=field,
                    hint="Where one text holds all labels, say what separates them: task.separator",
                )
            value = [part.strip() for part in value.split(self.separator) if part.strip()]
        if not isinstance(value, list | tuple):
            raise record.error(f"expected a list of labels, found {value!r:.60}", field=field)
        names = [label_name(item) for item in value]
        if None in names:
            wrong = value[names.index(None)]
            raise record.error(
                f"expected labels (texts, whole numbers or truth values), found {wrong!r:.60}", field=field
            )
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def with_labels_from(self, examples: Sequence[LabelsExample]) -> Self:
        """All labels that occur, sorted; numbers by value.

        Raises:
            TaskError: there are none.
        """
        if self.labels is not None:
            return self
        labels = in_order(label for example in examples for label in example.labels or ())
        if not labels:
            raise TaskError(f"no training example has a label under '{self.columns.labels}' (task.columns.labels)")
        return self.model_copy(update={"labels": labels})

    def check_labels(self, records: Sequence[Record], examples: Sequence[LabelsExample]) -> None:
        """Refuse a label that training never saw."""
        check_known(records, [e.labels or () for e in examples], self.labels or (), self.columns.labels)

    def encode(self, example: LabelsExample, tokenizer: Any, max_length: int) -> Encoding:
        """One row, with a 1 for every label it has and a 0 for every other."""
        targets = {}
        if example.labels is not None:
            targets = {"labels": [int(label in example.labels) for label in self.labels or ()]}
        return encode_texts(example.texts, targets, tokenizer, max_length)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """One output per label."""
        return self.pooled_head(hidden_size, len(self.labels or ()), vocabulary, chooses_class=False)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Binary cross-entropy, the mean over rows and labels; ``logits`` is ``(B, C)``."""
        return torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), targets["labels"].float())

    def decode(self, example: LabelsExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> Probabilities:
        """The probability of every label."""
        del example, rows
        return dict(zip(self.labels or (), logits[0].sigmoid().tolist(), strict=True))

    def settle(self, examples: Sequence[LabelsExample], predictions: Sequence[Probabilities]) -> Self:
        """With the threshold of highest micro F1, unless one is set."""
        if self.threshold is not None:
            return self
        pairs = list(zip(examples, predictions, strict=True))
        gold = [label in (example.labels or ()) for example, prediction in pairs for label in prediction]
        threshold = best_threshold(gold, [p for prediction in predictions for p in prediction.values()])
        return self.model_copy(update={"threshold": threshold})

    def _given(self, prediction: Probabilities) -> list[str]:
        threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        return [label for label, probability in prediction.items() if probability >= threshold]

    def score(self, examples: Sequence[LabelsExample], predictions: Sequence[Probabilities]) -> Scores:
        """Micro F1, macro F1 and subset accuracy."""
        return label_set_scores([e.labels or () for e in examples], [self._given(p) for p in predictions])

    def to_json(self, example: LabelsExample, prediction: Probabilities) -> dict[str, Any]:
        """The labels given, and the probabilities of all."""
        return {
            "id": example.id,
            "labels": self._given(prediction),
            "probabilities": {label: round(p, 6) for label, p in prediction.items()},
        }

    def answer_key(self, prediction: Probabilities) -> str:
        """The labels given."""
        return ", ".join(self._given(prediction))
