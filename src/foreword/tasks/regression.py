"""Regression: one number for a text or for a pair of texts, such as how alike two sentences are (STS-B).

The head's one output is the number in standard units: the mean of the training numbers is taken away from it, and
the rest divided by their standard deviation. So data of any scale train at the same learning rates. Both are found
from the training data and recorded, as labels are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, FiniteFloat, field_validator
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import ScoreExample
from foreword.data.records import Record
from foreword.heads import Head, Vocabulary
from foreword.metrics.regression import regression_scores
from foreword.metrics.scores import Scores
from foreword.tasks.base import Encoding, Task
from foreword.tasks.making.pooled import Pooled
from foreword.tasks.making.texts import TextColumns, encode_texts

_SAME = 100
"""Answers nearer than the training numbers' deviation divided by this are taken for the same."""


class RegressionColumns(TextColumns):
    """Which fields hold what."""

    score: str = "score"
    """The number, or a text that is one."""


class Regression(Pooled, Task[ScoreExample, float]):
    """One number per text, or per pair of texts."""

    name: ClassVar[str] = "regression"
    summary: ClassVar[str] = "one number for a text or a pair of texts; Pearson's and Spearman's correlation"

    columns: RegressionColumns = RegressionColumns()
    """Names of the fields in the user's files."""
    range: tuple[FiniteFloat, FiniteFloat] | None = None
    """Lowest and highest possible number, such as [0, 5]: data beyond are an error, and answers are cut to it."""
    mean: FiniteFloat | None = None
    """What the head counts from. Found from the training data when left out: their mean."""
    deviation: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """What the head counts in. Found from the training data when left out: their standard deviation."""

    @field_validator("range")
    @classmethod
    def _range_is_one(cls, bounds: tuple[float, float] | None) -> tuple[float, float] | None:
        if bounds is not None and bounds[0] >= bounds[1]:
            raise ValueError("expected the lower number first")
        return bounds

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[ScoreExample]:
        """One example per record."""
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> ScoreExample:
        score = None
        if labelled or record.has(self.columns.score):
            score = self._score(record)
        return ScoreExample(**self.columns.texts(record, number), score=score)

    def _score(self, record: Record) -> float:
        field = self.columns.score
        value = record.value(field)
        if (score := _number(value)) is None:
            raise record.error(f"expected a number, found {value!r:.60}", field=field)
        if self.range is not None and not self.range[0] <= score <= self.range[1]:
            raise record.error(
                f"{score:g} lies outside of task.range, {self.range[0]:g} to {self.range[1]:g}", field=field
            )
        return score

    def with_labels_from(self, examples: Sequence[ScoreExample]) -> Self:
        """Mean and deviation of the numbers, where they are not set; of numbers all the same the deviation is 1."""
        scores = [example.score for example in examples if example.score is not None]
        if not scores:
            return self
        mean = fmean(scores) if self.mean is None else self.mean
        deviation = (pstdev(scores) or 1.0) if self.deviation is None else self.deviation
        return self.model_copy(update={"mean": mean, "deviation": deviation})

    def encode(self, example: ScoreExample, tokenizer: Any, max_length: int) -> Encoding:
        """One row, with its number in standard units."""
        targets = {} if example.score is None else {"score": (example.score - self._mean) / self._deviation}
        return encode_texts(example.texts, targets, tokenizer, max_length)

    @property
    def _mean(self) -> float:
        return 0.0 if self.mean is None else self.mean

    @property
    def _deviation(self) -> float:
        return 1.0 if self.deviation is None else self.deviation

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """One output."""
        return self.pooled_head(hidden_size, 1, vocabulary, chooses_class=False)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Mean squared error over rows, in standard units; ``logits`` is ``(B, 1)``."""
        return torch.nn.functional.mse_loss(logits.float().squeeze(-1), targets["score"])

    def decode(self, example: ScoreExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> float:
        """The number, in the data's own units."""
        del example, rows
        score = self._mean + self._deviation * float(logits[0])
        return score if self.range is None else min(max(score, self.range[0]), self.range[1])

    def score(self, examples: Sequence[ScoreExample], predictions: Sequence[float]) -> Scores:
        """Pearson's and Spearman's correlation, and the squared error."""
        return regression_scores([e.score or 0.0 for e in examples], predictions)

    def to_json(self, example: ScoreExample, prediction: float) -> dict[str, Any]:
        """The number."""
        return {"id": example.id, "score": round(prediction, 6)}

    def answer_key(self, prediction: float) -> str:
        """The number, rounded to a small part of the training numbers' deviation."""
        step = self._deviation / _SAME
        return f"{round(prediction / step) * step:g}"


def _number(value: Any) -> float | None:
    """A finite number, or a text that spells one; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str) or "_" in str(value):
        return None  # Python alone reads 1_000 as a number
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
