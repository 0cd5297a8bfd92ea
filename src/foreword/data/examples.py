"""Examples: what a task has checked and understood, one class per kind of task.

Offsets count characters (Unicode code points) of the text they are about; ends are exclusive.
``None`` for a label means 'not given' (prediction); an empty tuple means 'given, and none'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Span(NamedTuple):
    """A stretch ``[start, end)``, of characters or of words, as the owner says."""

    start: int
    end: int


class Entity(NamedTuple):
    """A typed stretch ``[start, end)``, of characters or of words, as the owner says."""

    start: int
    end: int
    type: str


class Answer(NamedTuple):
    """A gold answer and the character of the context where it starts."""

    text: str
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """One text, or a pair of texts."""

    id: str
    text: str
    pair: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The one, or both."""
        return (self.text,) if self.pair is None else (self.text, self.pair)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextExample(Texts):
    """One text or a pair of texts with one label."""

    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpansExample(TextExample):
    """One text or a pair of texts with marked stretches and one label.

    Attributes:
        spans: characters of each marked stretch; with a pair, the second is in ``pair``.
    """

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsExample(Texts):
    """One text or a pair of texts with any number of labels; ``labels == ()`` says that there is none."""

    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreExample(Texts):
    """One text or a pair of texts with one number."""

    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceExample:
    """Something to go on, and choices of which one is right.

    Attributes:
        question: what is asked of the text, where the data say.
        choices: two or more.
        right: number of the right choice, counted from 0.
    """

    id: str
    text: str
    question: str | None = None
    choices: tuple[str, ...]
    right: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsExample:
    """A text cut into words, and the entities in it.

    Attributes:
        words: character span of each word in ``text``.
        entities: typed spans over *words*, not overlapping.
    """

    id: str
    text: str
    words: tuple[Span, ...]
    entities: tuple[Entity, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PropositionExample(WordsExample):
    """A predicate in a text cut into words; its entities are the predicate's roles.

    Attributes:
        predicate: numbers of the predicate's words, rising; mostly one.
    """

    predicate: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionExample:
    """A question about a context.

    Attributes:
        answers: where they stand in the context; ``()`` says that none does.
        golds: texts that count as right, where they are others than those of ``answers``.
    """

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
    golds: tuple[str, ...] | None = None

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every text that counts as right; none for a question that cannot be answered."""
        return tuple(answer.text for answer in self.answers or ()) if self.golds is None else self.golds


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceExample:
    """A text to write another one for; each of ``targets`` is right."""

    id: str
    source: str
    targets: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceQuestion:
    """A question with candidate answers.

    Attributes:
        candidates: their texts; one may come twice, and may be empty.
        right: per candidate, whether it is a right answer.
        answers: texts of the right answers, which need not be among the candidates.
    """

    id: str
    text: str
    candidates: tuple[str, ...]
    right: tuple[bool, ...] | None = None
    answers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageExample:
    """A passage and the questions about it."""

    id: str
    passage: str
    questions: tuple[ChoiceQuestion, ...]
