"""Labels: read from records, put in order, compared with those that are known; and tasks that give one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import torch
from pydantic import ValidationInfo, field_validator
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import TextExample
from foreword.data.records import Record
from foreword.errors import TaskError
from foreword.metrics.classification import Main, classification_scores, parts_of
from foreword.metrics.scores import Scores
from foreword.tasks.base import Task
from foreword.tasks.making.texts import TextColumns

LabelledT = TypeVar("LabelledT", bound=TextExample)


@dataclass(frozen=True, slots=True)
class LabelPrediction:
    """A label and the probability of every label, in [0, 1]."""

    label: str
    probabilities: Mapping[str, float]


class LabelColumns(TextColumns):
    """Which fields hold what."""

    label: str = "label"
    """The label: any text, whole number or truth value."""


class LabelTask(Task[LabelledT, LabelPrediction]):
    """A task whose head has one output per label, and whose rows have the target 'label'."""

    columns: LabelColumns = LabelColumns()
    """Names of the fields in the user's files."""
    positive: str | None = None
    """The label that counts as found, such as '1' for paraphrases: adds its own F1 to the scores."""
    main: Main = "accuracy"
    """The score to select the best weights by; 'f1' is that of the positive label, 'and' the mean of two scores."""

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

    def read_label(self, record: Record, *, labelled: bool) -> str | None:
        """The label of a record; None where it has none and need not.

        Raises:
            DataError: it is missing, or is no label.
        """
        field = self.columns.label
        if not labelled and not record.has(field):
            return None
        value = record.value(field)
        if (label := label_name(value)) is None:
            raise record.error(
                f"expected a label (text, whole number or truth value), found {value!r:.60}", field=field
            )
        return label

    def label_targets(self, label: str | None) -> dict[str, int]:
        """The targets of a row; none for a label that is not given or not known."""
        known = self.labels or ()
        return {"label": known.index(label)} if label is not None and label in known else {}

    def with_labels_from(self, examples: Sequence[LabelledT]) -> Self:
        """All labels that occur, sorted; numbers by value.

        Raises:
            TaskError: the positive label is none of them.
        """
        if self.labels is not None:
            return self
        labels = in_order(example.label for example in examples if example.label is not None)
        if self.positive is not None and self.positive not in labels:
            raise TaskError(f"task.positive: '{self.positive}' is no label. Labels: {', '.join(labels)}")
        return self.model_copy(update={"labels": labels})

    def check_labels(self, records: Sequence[Record], examples: Sequence[LabelledT]) -> None:
        """Refuse a label that training never saw."""
        given = [() if example.label is None else (example.label,) for example in examples]
        check_known(records, given, self.labels or (), self.columns.label)

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
        """Accuracy and F1."""
        gold, found = [e.label or "" for e in examples], [p.label for p in predictions]
        return classification_scores(gold, found, positive=self.positive, main=self.main)

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


def label_name(value: Any) -> str | None:
    """A label as text: true/false for truth values, digits for whole numbers; None for what is no label."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str() if value.strip():
            return value
    return None


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """All that occur, once each: whole numbers by value, then everything else by its characters."""
    return tuple(sorted(set(labels), key=_order))


def check_label(label: str, labels: Sequence[str]) -> None:
    """Refuse a label that a setting names and the task does not have.

    Raises:
        ValueError: listing the labels there are.
    """
    if label not in labels:
        raise ValueError(f"'{label}' is no label. Labels: {', '.join(labels)}")


def check_known(
    records: Sequence[Record], given: Sequence[Collection[str]], known: Collection[str], field: str, kind: str = "label"
) -> None:
    """Refuse labels that training never saw.

    Args:
        records: where they come from.
        given: the labels of each record.
        known: those of the training data.
        field: that holds them.
        kind: what a label is, in the message.

    Raises:
        DataError: naming the first such record, and how many unknown labels there are.
    """
    unknown = {label for labels in given for label in labels} - set(known)
    for record, labels in zip(records, given, strict=True):
        for label in labels:
            if label in unknown:
                others = f" (nor do {len(unknown) - 1} others)" if len(unknown) > 1 else ""
                raise record.error(
                    f"{kind} '{label}' does not occur in the training data{others}",
                    field=field,
                    hint=f"Known {kind}s: {', '.join(sorted(known))}",
                )


def _order(label: str) -> tuple[bool, int, str]:
    try:
        return False, int(label), label
    except ValueError:
        return True, 0, label
