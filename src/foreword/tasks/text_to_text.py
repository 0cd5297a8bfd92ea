"""Classification in words: a language model reads a text and writes the name of its class.

Source: Lester et al. 2021, section 2 and appendix A: a class is right if its name is written to the letter, and
all else is wrong. The formats are those of T5 (Raffel et al. 2020, appendix D) without the name of the task,
which the prompt stands for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from pydantic import PositiveInt, ValidationInfo, field_validator, model_validator
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import TextExample
from foreword.data.records import Record
from foreword.errors import TaskError
from foreword.metrics.classification import classification_scores
from foreword.metrics.likelihood import Likelihood, likelihood_scores
from foreword.metrics.scores import Scores
from foreword.tasks.classification import Classification
from foreword.tasks.making.cloze import check_words
from foreword.tasks.making.labels import LabelColumns
from foreword.tasks.making.template import Template
from foreword.tasks.making.writing import WritingTask, Written, likelihood_of


@dataclass(frozen=True, slots=True)
class WordsPrediction:
    """A label, in the words that were written.

    Attributes:
        likelihood: what the model thinks of the right words.
        text: what it wrote; None where it was not let write.
        label: whose words they are; None where they are no label's.
    """

    likelihood: Likelihood
    text: str | None = None
    label: str | None = None


class TextToText(WritingTask[TextExample, WordsPrediction]):
    """One label per text, or per pair of texts, written out by a language model."""

    name: ClassVar[str] = "text-to-text"
    summary: ClassVar[str] = "one label for a text or a pair of texts, written in words; accuracy, invalid answers"
    known_fields: ClassVar[tuple[str, ...]] = ("text", "pair")

    columns: LabelColumns = LabelColumns()
    """Names of the fields in the user's files."""
    template: str = "{text}"
    """What the model is given, such as 'sentence: {text}', or 'sentence1: {text} sentence2: {pair}' for pairs."""
    verbalizer: dict[str, str] | None = None
    """Label -> the words to write for it; labels that are left out are written as they are."""
    max_new_tokens: PositiveInt = 16
    """Most tokens of an answer, the closing one among them. The words of every label must have room in them."""

    select_by: Literal["accuracy", "likelihood"] = "accuracy"
    """Keep the weights that name most dev labels right, or those under which the right words are likeliest."""

    @field_validator("verbalizer")
    @classmethod
    def _words_differ(cls, words: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        _check_verbalizer(words or {}, info.data.get("labels"))
        return words

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if ("pair" in Template(self.template, self.known_fields).fields) != (self.columns.pair is not None):
            raise ValueError("{pair} in template and its field, columns.pair, need one another")
        return self

    @property
    def longest(self) -> int:
        """Most tokens of an answer."""
        return self.max_new_tokens

    @property
    def search(self) -> Mapping[str, Any]:
        """The likeliest token every time."""
        return {"num_beams": 1}

    @property
    def _classes(self) -> Classification:
        """The same task as it is of texts with labels; it knows how to read them."""
        return Classification(columns=self.columns, labels=self.labels)

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[TextExample]:
        """One example per record."""
        found = self._classes.read(records, labelled=labelled, first=first)
        return found if labelled else [replace(example, label=None) for example in found]

    def with_labels_from(self, examples: Sequence[TextExample]) -> Self:
        """All labels that occur, sorted; numbers by value."""
        labels = self._classes.with_labels_from(examples).labels
        try:
            _check_verbalizer(self.verbalizer or {}, labels)
        except ValueError as error:
            raise TaskError(f"task.verbalizer: {error}") from error
        return self.model_copy(update={"labels": labels})

    def check_labels(self, records: Sequence[Record], examples: Sequence[TextExample]) -> None:
        """Refuse a label that training never saw."""
        self._classes.check_labels(records, examples)

    def texts_of(self, example: TextExample) -> Mapping[str, str]:
        """The text, or both of a pair."""
        return {"text": example.text} | ({} if example.pair is None else {"pair": example.pair})

    def targets_of(self, example: TextExample) -> Sequence[str]:
        """The words of its label."""
        return () if example.label is None else (self._words(example.label),)

    def _words(self, label: str) -> str:
        return (self.verbalizer or {}).get(label, label)

    def decode(self, example: TextExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> WordsPrediction:
        """What the model thinks of the right words."""
        del example, rows
        return WordsPrediction(likelihood_of(logits))

    def with_text(self, example: TextExample, prediction: WordsPrediction, written: Written) -> WordsPrediction:
        """The label whose words were written to the letter, if there is one."""
        del example
        label = next((label for label in self.labels or () if self._words(label) == written.text), None)
        return replace(prediction, text=written.text, label=label)

    def score(self, examples: Sequence[TextExample], predictions: Sequence[WordsPrediction]) -> Scores:
        """Accuracy and macro F1 of what was written, and how many answers were no label.

        Where nothing was written, ``exact_match`` takes the place of the accuracy: the share of answers that would have
        been written to the letter.
        """
        main = "exact_match" if self.select_by == "accuracy" else "likelihood"
        likely = likelihood_scores([prediction.likelihood for prediction in predictions], main)
        if all(prediction.text is None for prediction in predictions):
            return likely
        gold, labels = [example.label or "" for example in examples], [one.label for one in predictions]
        found = classification_scores(gold, labels)
        return Scores(
            values={**found.values, **likely.values},
            counts={**found.counts, **likely.counts, "invalid": labels.count(None)},
            main=found.main,
            measures=likely.measures,
        )

    def to_json(self, example: TextExample, prediction: WordsPrediction) -> dict[str, Any]:
        """The label, null where the text is none's, and the text."""
        return {"id": example.id, "label": prediction.label, "text": prediction.text}

    def answer_key(self, prediction: WordsPrediction) -> str:
        """The text."""
        return prediction.text or ""


def _check_verbalizer(words: Mapping[str, str], labels: Sequence[str] | None) -> None:
    """Refuse words that are none, words of labels that are not there, and labels with the same words.

    Raises:
        ValueError: naming the label.
    """
    check_words(words, labels, every=False)
    owners: dict[str, str] = {}
    for label in dict.fromkeys([*words, *(labels or ())]):
        other = owners.setdefault(words.get(label, label), label)
        if other != label:
            raise ValueError(f"labels '{other}' and '{label}' have the same words, '{words.get(label, label)}'")
