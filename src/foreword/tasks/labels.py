"""What all tasks share that give every example one label of a fixed set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.records import Record
from foreword.metrics.classification import classification_scores
from foreword.metrics.scores import Scores
from foreword.tasks.base import Task


class Labelled(Protocol):
    """An example with one label, None where it is not given."""

    @property
    def id(self) -> str:
        """A name for it."""

    @property
    def label(self) -> str | None:
        """As `label_text` gives it."""


LabelledT = TypeVar("LabelledT", bound=Labelled)


@dataclass(frozen=True, slots=True)
class LabelPrediction:
    """A label and the probability of every label, in [0, 1]."""

    label: str
    probabilities: Mapping[str, float]


class LabelTask(Task[LabelledT, LabelPrediction]):
    """A task whose head has one output per label, and whose rows have the target 'label'."""

    @property
    def label_field(self) -> str:
        """The user's name for the field of labels."""
        raise NotImplementedError

    def read_label(self, record: Record, *, labelled: bool) -> str | None:
        """The label of a record; None where it has none and need not.

        Raises:
            DataError: it is missing, or is no label.
        """
        return label_text(record, self.label_field) if labelled or record.has(self.label_field) else None

    def label_targets(self, label: str | None) -> dict[str, int]:
        """The targets of a row; none for a label that is not given or not known."""
        known = self.labels or ()
        return {"label": known.index(label)} if label is not None and label in known else {}

    def with_labels_from(self, examples: Sequence[LabelledT]) -> Self:
        """All labels that occur, sorted; numbers by value."""
        if self.labels is not None:
            return self
        found = {example.label for example in examples if example.label is not None}
        return self.model_copy(update={"labels": tuple(sorted(found, key=_order))})

    def check_labels(self, records: Sequence[Record], examples: Sequence[LabelledT]) -> None:
        """Refuse a label that training never saw."""
        known = set(self.labels or ())
        unknown = sorted({example.label for example in examples if example.label} - known)
        for record, example in zip(records, examples, strict=True):
            if example.label in unknown:
                raise record.error(
                    f"label '{example.label}' does not occur in the training data"
                    + (f" (nor do {len(unknown) - 1} others)" if len(unknown) > 1 else ""),
                    field=self.label_field,
                    hint=f"Known labels: {', '.join(sorted(known))}",
                )

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over rows; ``logits`` is ``(B, C)``."""
        return torch.nn.functional.cross_entropy(logits.float(), targets["label"])

    def decode(self, example: LabelledT, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> LabelPrediction:
        """The most probable label."""
        del example, rows
        probabilities = logits[0].softmax(-1).tolist()
        named = dict(zip(self.labels or (), probabilities, strict=True))
        return LabelPrediction(max(named, key=named.__getitem__), named)

    def score(self, examples: Sequence[LabelledT], predictions: Sequence[LabelPrediction]) -> Scores:
        """Accuracy and macro F1, with the share of the most frequent label beside them."""
        return classification_scores([e.label or "" for e in examples], [p.label for p in predictions])

    def to_json(self, example: LabelledT, prediction: LabelPrediction) -> dict[str, Any]:
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


def label_text(record: Record, field: str) -> str:
    """A label as text: true/false for truth values, digits for whole numbers.

    Raises:
        DataError: it is missing, or is no label.
    """
    value = record.value(field)
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str() if value.strip():
            return value
    raise record.error(f"expected a label (text, whole number or truth value), found {value!r:.60}", field=field)


def _order(label: str) -> tuple[bool, int, str]:
    """Whole numbers by value, then everything else by its characters."""
    try:
        return False, int(label), label
    except ValueError:
        return True, 0, label
