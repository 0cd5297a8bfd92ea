"""Generation: write a text for a given one, such as a sentence for a table or a summary.

Source: Li & Liang 2021, sections 3 and 5 (formats, decoding); their code for what the paper leaves open. Departure
from it: line breaks are not forbidden.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, field_validator
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import SourceExample
from foreword.data.records import Record
from foreword.metrics.generation import METRICS, Metric, check_metrics, text_scores
from foreword.metrics.likelihood import Likelihood, likelihood_scores
from foreword.metrics.scores import Scores
from foreword.tasks.base import Columns
from foreword.tasks.making.writing import WritingTask, Written, likelihood_of


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """A text for a source.

    Attributes:
        likelihood: what the model thinks of the targets.
        written: what it wrote; None where it was not let write.
    """

    likelihood: Likelihood
    written: Written | None = None


class GenerationColumns(Columns):
    """Which fields hold what."""

    source: str = "source"
    """The text that is given."""
    target: str = "target"
    """The text that is wanted, or a list of texts that all are right."""
    id: str = "id"
    """A name for the example, if the data has one."""


class Decoding(BaseModel):
    """``[task.decoding]``: how texts are searched for."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_beams: PositiveInt = 5
    """Beams of the search; 1 takes the likeliest token every time."""
    max_new_tokens: PositiveInt = 100
    """Most tokens that are written, the closing one among them. Targets in training lose what is beyond."""
    min_new_tokens: NonNegativeInt = 0
    """Fewest tokens before the closing one."""
    length_penalty: float = 1.0
    """Power of its length by which a beam's log probability is divided: above 0 it favours long texts."""
    no_repeat_ngram_size: NonNegativeInt = 0
    """No so many tokens in a row come twice in a text; 0 allows all."""


class Generation(WritingTask[SourceExample, TextPrediction]):
    """Write a text for a source."""

    name: ClassVar[str] = "generation"
    summary: ClassVar[str] = "write a text for another one; BLEU, chrF, ROUGE, likelihood"
    known_fields: ClassVar[tuple[str, ...]] = ("source",)

    columns: GenerationColumns = GenerationColumns()
    """Names of the fields in the user's files."""
    template: str = "{source}"
    """What the model is given: the source in its field, and words around it."""
    decoding: Decoding = Decoding()
    """How texts are searched for."""
    metrics: tuple[Metric, ...] = ("bleu", "chrf", "rouge")
    """What is counted on written texts: bleu, chrf, rouge, nist, meteor. The first one is the main value."""
    lowercase: bool = False
    """Whether metrics compare texts in lower case."""
    select_by: Literal["likelihood", "metric"] = "likelihood"
    """Keep the weights under which the dev targets are likeliest; or those with the best first metric, for which all
    dev texts are written at every evaluation. In the end they are written in either case."""

    @field_validator("metrics")
    @classmethod
    def _one_to_select_by(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        if not metrics:
            raise ValueError("expected one at least")
        if METRICS[metrics[0]].main is None:
            raise ValueError(f"'{metrics[0]}' has no fixed scale, so it cannot come first")
        return metrics

    @property
    def longest(self) -> int:
        """Most tokens of a text."""
        return self.decoding.max_new_tokens

    @property
    def search(self) -> Mapping[str, Any]:
        """Settings of the beam search."""
        return self.decoding.model_dump(exclude={"max_new_tokens"})

    @property
    def selects_by_writing(self) -> bool:
        """Whether a metric selects."""
        return self.select_by == "metric"

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[SourceExample]:
        """One example per record."""
        if labelled:
            check_metrics(self.metrics)
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> SourceExample:
        return SourceExample(
            id=str(record.get(self.columns.id, number)),
            source=record.text(self.columns.source),
            targets=_texts(record, self.columns.target) if labelled else None,
        )

    def texts_of(self, example: SourceExample) -> Mapping[str, str]:
        """The source."""
        return {"source": example.source}

    def targets_of(self, example: SourceExample) -> Sequence[str]:
        """All that are right."""
        return example.targets or ()

    def decode(self, example: SourceExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> TextPrediction:
        """What the model thinks of the targets."""
        del example, rows
        return TextPrediction(likelihood_of(logits))

    def with_text(self, example: SourceExample, prediction: TextPrediction, written: Written) -> TextPrediction:
        """The text as it was written."""
        del example
        return replace(prediction, written=written)

    def score(self, examples: Sequence[SourceExample], predictions: Sequence[TextPrediction]) -> Scores:
        """Likelihood of the targets, and the metrics where texts were written."""
        likely = likelihood_scores([prediction.likelihood for prediction in predictions])
        texts = [prediction.written for prediction in predictions if prediction.written is not None]
        if not texts:
            return likely
        targets = [example.targets or () for example in examples]
        found = text_scores(targets, [one.text for one in texts], self.metrics, lowercase=self.lowercase)
        return Scores(
            values={**found.values, **likely.values},
            counts={**found.counts, **likely.counts, "unfinished": sum(not one.finished for one in texts)},
            main=found.main,
            measures={**found.measures, **likely.measures},
        )

    def to_json(self, example: SourceExample, prediction: TextPrediction) -> dict[str, Any]:
        """The text."""
        return {"id": example.id, "text": self.answer_key(prediction)}

    def answer_key(self, prediction: TextPrediction) -> str:
        """The text."""
        return "" if prediction.written is None else prediction.written.text


def _texts(record: Record, field: str) -> tuple[str, ...]:
    """One text, or every one of a list."""
    value = record.value(field)
    if not isinstance(value, list):
        return (record.text(field),)
    if not value or not all(isinstance(text, str) and text.strip() for text in value):
        raise record.error("expected a text, or a list of texts, none of them empty", field=field)
    return tuple(value)
