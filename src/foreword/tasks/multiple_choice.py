"""Multiple choice: which of an example's own choices is right, as in COPA.

Every choice is read in a row of its own, as a pair of the text and the choice; a pooled head gives each row one
score, and a softmax over the rows of the example makes them probabilities, as BERT's authors read SWAG (Devlin et
al. 2019, section 4.4) and those of P-Tuning v2 read COPA (in their code). Examples of one batch may have different
numbers of choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from foreword.data.batching import IGNORED, Encoded
from foreword.data.examples import ChoiceExample
from foreword.data.records import Record
from foreword.heads import Head, Vocabulary
from foreword.metrics.choice import choice_scores
from foreword.metrics.scores import Scores
from foreword.tasks.base import Columns, Encoding, Task
from foreword.tasks.making.labels import label_name
from foreword.tasks.making.pooled import Pooled
from foreword.tasks.making.template import Template
from foreword.tasks.making.texts import encode_texts


@dataclass(frozen=True, slots=True)
class ChoicePrediction:
    """The number of a choice, counted from 0, and the probability of every choice, in [0, 1]."""

    choice: int
    probabilities: tuple[float, ...]


class MultipleChoiceColumns(Columns):
    """Which fields hold what."""

    text: str = "text"
    """The text that all choices go on from."""
    question: str | None = None
    """What is asked of the text, if the data say; the templates place it."""
    choices: str | tuple[str, ...] = "choices"
    """A list of choices, as many as there are; or several fields of one choice each, as ["choice1", "choice2"]."""
    label: str = "label"
    """The number of the right choice, counted from 0, or its name (task.labels)."""
    id: str = "id"
    """A name for the example, if the data has one."""

    @field_validator("choices")
    @classmethod
    def _several(cls, choices: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(choices, str) and len(set(choices)) != max(len(choices), 2):
            raise ValueError("expected two or more different fields, or one that holds a list")
        return choices


_BEFORE, _CHOICE = ("text", "question"), ("choice", "question")
"""Fields of the two templates, the one that must be there first."""


class MultipleChoice(Pooled, Task[ChoiceExample, ChoicePrediction]):
    """One of several choices that every example brings along."""

    name: ClassVar[str] = "multiple-choice"
    summary: ClassVar[str] = "one of an example's own choices, as in COPA; accuracy"
    together: ClassVar[bool] = True

    labels: tuple[str, ...] | None = None
    """How the data name the choices, in their order, such as ["A", "B", "C"]; numbers from 0 when left out."""
    columns: MultipleChoiceColumns = MultipleChoiceColumns()
    """Names of the fields in the user's files."""
    template: str = "{text}"
    """What stands in front of every choice: '{text}', and '{question}' if there is one."""
    choice_template: str = Field(default="{choice}", validate_default=True)
    """How a choice stands after it: '{choice}', and '{question}' if there is one and it stands here."""
    questions: dict[str, str] | None = None
    """What to write for a question that is but a word: {cause = "because", effect = "so"}. As it is when left out."""

    @field_validator("template")
    @classmethod
    def _has_the_text(cls, template: str) -> str:
        Template(template, _BEFORE)
        return template

    @field_validator("choice_template")
    @classmethod
    def _has_choice_and_question(cls, template: str, info: ValidationInfo) -> str:
        found = Template(template, _CHOICE).fields
        if "columns" in info.data and "template" in info.data:  # else what is wrong with those is told already
            placed = "question" in (*found, *Template(info.data["template"], _BEFORE).fields)
            if placed != (info.data["columns"].question is not None):
                raise ValueError(
                    "{question} needs its field, columns.question"
                    if placed
                    else "expected {question} here or in task.template, as columns.question is set"
                )
        return template

    @field_validator("questions")
    @classmethod
    def _questions_are_asked(cls, words: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        if words is not None and "columns" in info.data and info.data["columns"].question is None:
            raise ValueError("needs the field of the question, columns.question")
        return words

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[ChoiceExample]:
        """One example per record."""
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> ChoiceExample:
        choices = self._choices(record)
        if self.labels is not None and len(choices) > len(self.labels):
            raise record.error(f"{len(choices)} choices, and task.labels names {len(self.labels)}")
        right = None
        if labelled or record.has(self.columns.label):
            right = self._right(record, len(choices))
        return ChoiceExample(
            id=str(record.get(self.columns.id, number)),
            text=record.text(self.columns.text),
            question=self._question(record),
            choices=choices,
            right=right,
        )

    def _question(self, record: Record) -> str | None:
        if self.columns.question is None:
            return None
        question = record.text(self.columns.question)
        if self.questions is None:
            return question
        if question not in self.questions:
            known = ", ".join(self.questions)
            raise record.error(f"'{question}' is not in task.questions ({known})", field=self.columns.question)
        return self.questions[question]

    def _choices(self, record: Record) -> tuple[str, ...]:
        field = self.columns.choices
        if not isinstance(field, str):
            return tuple(record.text(each) for each in field)
        value = record.value(field)
        if not isinstance(value, list | tuple) or len(value) < 2:
            raise record.error(f"expected a list of two or more choices, found {value!r:.60}", field=field)
        for choice in value:
            if not isinstance(choice, str) or not choice.strip():
                raise record.error(f"expected choices that are texts, found {choice!r:.60}", field=field)
        return tuple(value)

    def _right(self, record: Record, count: int) -> int:
        value = record.value(self.columns.label)
        names = [self._name(number) for number in range(count)]
        if (name := label_name(value)) not in names:
            raise record.error(
                f"expected the right one of {count} choices ({', '.join(names)}), found {value!r:.60}",
                field=self.columns.label,
                hint="Where the data name choices otherwise, list those names in their order: task.labels",
            )
        return names.index(name)

    def _name(self, choice: int) -> str:
        return str(choice) if self.labels is None else self.labels[choice]

    def encode(self, example: ChoiceExample, tokenizer: Any, max_length: int) -> Encoding:
        """A row per choice, of which the first says which is right and so where the next example begins."""
        rows: list[Encoded] = []
        notes: list[str] = []
        values = {"text": example.text, "question": example.question or ""}
        before, _ = Template(self.template, _BEFORE).fill(values)
        behind = Template(self.choice_template, _CHOICE)
        for number, choice in enumerate(example.choices):
            texts = (before, behind.fill({**values, "choice": choice})[0])
            targets = {} if example.right is None else {"choice": IGNORED if number else example.right}
            encoding = encode_texts(texts, targets, tokenizer, max_length)
            rows += encoding.rows
            notes += [encoding.note] if encoding.note else []
        return Encoding(tuple(rows), notes[0] if notes else None)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """One output."""
        return self.pooled_head(hidden_size, 1, vocabulary, chooses_class=False)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over the rows of each example, the mean over examples.

        Args:
            logits: ``(B, 1)``, the rows of an example one after the other.
            targets: 'choice', ``(B,)``: the number of the right row at the first row of each example.
        """
        scores, first = logits.float().squeeze(-1), (targets["choice"] != IGNORED).nonzero().squeeze(-1)
        examples = list(scores.tensor_split(first[1:].tolist()))
        table = pad_sequence(examples, batch_first=True, padding_value=float("-inf"))  # (examples, most choices)
        return torch.nn.functional.cross_entropy(table, targets["choice"][first])

    def decode(self, example: ChoiceExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> ChoicePrediction:
        """The most probable choice."""
        del example, rows
        probabilities = torch.cat(list(logits)).softmax(0)
        return ChoicePrediction(int(probabilities.argmax()), tuple(probabilities.tolist()))

    def score(self, examples: Sequence[ChoiceExample], predictions: Sequence[ChoicePrediction]) -> Scores:
        """Accuracy."""
        return choice_scores([-1 if e.right is None else e.right for e in examples], [p.choice for p in predictions])

    def to_json(self, example: ChoiceExample, prediction: ChoicePrediction) -> dict[str, Any]:
        """The choice by its name and its text, its probability, and those of all choices in their order."""
        names = [self._name(number) for number in range(len(example.choices))]
        return {
            "id": example.id,
            "label": names[prediction.choice],
            "text": example.choices[prediction.choice],
            "probability": round(prediction.probabilities[prediction.choice], 6),
            "probabilities": [round(probability, 6) for probability in prediction.probabilities],
        }

    def answer_key(self, prediction: ChoicePrediction) -> str:
        """The choice's place."""
        return self._name(prediction.choice)
