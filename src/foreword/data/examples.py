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
class TextExample:
    """One text or a pair of texts with one label."""

    id: str
    text: str
    pair: str | None = None
    label: str | None = None


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
    """A question about a context; ``answers == ()`` says that it cannot be answered."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] | None = None
