"""What tasks share that give every word a tag: words and tags out of records, targets, and the way back to spans.

Source: Liu et al. 2022, appendix A: IOB2 tags, a linear classifier on each word's first sub-token.
A sentence longer than the backbone allows is read in windows of whole words, so no label is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic, Literal, Self, TypeGuard, TypeVar

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor

from foreword.data.batching import IGNORED, Encoded
from foreword.data.examples import Entity, Span, WordsExample
from foreword.data.records import Record
from foreword.data.spans import (
    TagError,
    detect_scheme,
    entities_to_tags,
    repair_entities,
    tags_to_entities,
    word_spans,
)
from foreword.heads import Head, TokenHead, Vocabulary
from foreword.tasks.base import Columns, Encoding, Task
from foreword.tasks.making.depth import Depth, Layers
from foreword.tasks.making.labels import check_known
from foreword.tasks.making.viterbi import best_valid, count_transitions
from foreword.tasks.making.windows import Window, window

Decoding = Literal["greedy", "constrained", "transitions"]
WordsT = TypeVar("WordsT", bound=WordsExample)


@dataclass(frozen=True, slots=True)
class EntitiesPrediction:
    """Typed spans over words, each with the mean probability of its tags, in [0, 1]."""

    entities: tuple[Entity, ...]
    probabilities: tuple[float, ...]


class WordColumns(Columns):
    """Which fields hold what."""

    tokens: str = "tokens"
    """A list of words. Where a record has none, its text is cut into words."""
    tags: str = "tags"
    """A list of tags, one per word."""
    text: str = "text"
    """A plain text, for data without a list of words."""
    id: str = "id"
    """A name for the example, if the data has one."""


class Tagging(Depth, Task[WordsT, EntitiesPrediction], Generic[WordsT]):
    """Settings and verbs of tasks whose labels are types of spans over words that do not overlap."""

    kind: ClassVar[str]
    """What a label is the type of, in messages."""

    layers: Layers = "all"
    columns: WordColumns = WordColumns()
    """Names of the fields in the user's files."""
    scheme: Literal["auto", "IOB1", "IOB2", "BIOES"] = "auto"
    """How the files' tags are written; 'auto' finds it from the training data."""
    invalid_tags: Literal["error", "repair"] = "error"
    """What to do with a tag that its scheme forbids: stop, or read the sentence as conlleval would."""
    decoding: Decoding = "transitions"
    """Which tags the words of a sentence get by their probabilities: each word its best ('greedy'), the best sequence
    in which no I- stands without its like ('constrained'), or of those the best one where it counts too how often tags
    follow one another in the training data ('transitions')."""
    transitions: Mapping[str, Mapping[str, NonNegativeInt]] | None = None
    """For that: tag -> tag after it -> times, '' before the first word and behind the last. Counted in the training
    data when left out; of an artifact that comes from elsewhere nothing is known."""
    transition_weight: float = Field(default=0.5, ge=0)
    """For that too: what a step from tag to tag counts beside the probabilities of words; measured in docs/log.md."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the head."""

    def sentences(self, records: Iterable[Record], *, labelled: bool, first: int) -> list[tuple[Record, WordsExample]]:
        """Each record and its words, with the spans that its tags stand for where it has some.

        Raises:
            DataError: as `read`.
        """
        kept = list(records)
        scheme = self._scheme_of(kept) if self.scheme == "auto" else self.scheme
        return [(record, self._sentence(number, record, labelled, scheme)) for number, record in enumerate(kept, first)]

    def _scheme_of(self, records: Sequence[Record]) -> str:
        candidates = [record.get(self.columns.tags) for record in records]
        sequences = [tags for tags in candidates if _is_texts(tags)]
        try:
            return detect_scheme(sequences)
        except TagError:
            return "IOB2"  # the strict reading below then points at the first bad line

    def _sentence(self, number: int, record: Record, labelled: bool, scheme: str) -> WordsExample:
        id_ = str(record.get(self.columns.id, number))
        if not record.has(self.columns.tokens) and record.has(self.columns.text) and not labelled:
            text = record.text(self.columns.text)
            return WordsExample(id=id_, text=text, words=word_spans(text))
        tokens = record.value(self.columns.tokens)
        if not (_is_texts(tokens) and tokens and all(token.strip() for token in tokens)):
            raise record.error("expected a list of words that are not empty", field=self.columns.tokens)
        text, words = _join(tokens)
        entities = None
        if labelled or record.has(self.columns.tags):
            entities = self._entities(record, len(words), scheme)
        return WordsExample(id=id_, text=text, words=words, entities=entities)

    def _entities(self, record: Record, words: int, scheme: str) -> tuple[Entity, ...]:
        tags = record.value(self.columns.tags)
        if not _is_texts(tags) or len(tags) != words:
            raise record.error(f"expected a list of {words} tags, one per word", field=self.columns.tags)
        try:
            return tags_to_entities(tags, scheme)
        except TagError as error:
            if self.invalid_tags == "repair":
                return repair_entities(tags)
            lines = record.get("lines")
            at = Record(record.fields, record.file, lines[error.index]) if lines else record
            raise at.error(
                str(error),
                field=self.columns.tags,
                hint="Set task.scheme if it is another one, or task.invalid_tags = 'repair'",
            ) from error

    def with_labels_from(self, examples: Sequence[WordsT]) -> Self:
        """All types that occur, sorted, and how often tags follow one another where that counts."""
        found: dict[str, Any] = {}
        if self.labels is None:
            found["labels"] = tuple(sorted({entity.type for one in examples for entity in one.entities or ()}))
        if self.decoding == "transitions" and self.transitions is None:
            found["transitions"] = count_transitions(
                entities_to_tags(one.entities or (), len(one.words), "IOB2") for one in examples
            )
        return self.model_copy(update=found)

    def check_labels(self, records: Sequence[Record], examples: Sequence[WordsT]) -> None:
        """Refuse a type that training never saw, unless it `may_be_new`."""
        known = set(self.labels or ())
        types = [[entity.type for entity in example.entities or ()] for example in examples]
        unknown = [[type_ for type_ in each if type_ not in known and not self.may_be_new(type_)] for each in types]
        check_known(records, unknown, known, self.columns.tags, self.kind)

    def may_be_new(self, type_: str) -> bool:
        """Whether data to evaluate on may have a type that training lacks; never predicted, it counts as missed."""
        del type_
        return False

    @property
    def tags(self) -> tuple[str, ...]:
        """The head's outputs: O, then B- and I- of every type."""
        return ("O", *(f"{prefix}-{label}" for label in self.labels or () for prefix in "BI"))

    def encode(self, example: WordsT, tokenizer: Any, max_length: int) -> Encoding:
        """Rows of whole words; the tag stands on each word's first sub-token, others are ignored."""
        gold = None
        if example.entities is not None:
            tag_ids = {tag: number for number, tag in enumerate(self.tags)}
            tags = entities_to_tags(example.entities, len(example.words), "IOB2")
            gold = [tag_ids.get(tag, IGNORED) for tag in tags]
        rows, start = [], 0
        while start < len(example.words):
            found = self.window(example, start, tokenizer, max_length)
            rows.append(found.row if gold is None else _with_targets(found.row, gold))
            start = found.stop
        dropped = len(example.words) - len({word for row in rows for word, _ in row.words})
        note = "split into windows" if len(rows) > 1 else "with words the tokenizer drops" if dropped else None
        return Encoding(tuple(rows), note)

    def window(self, example: WordsT, start: int, tokenizer: Any, max_length: int) -> Window:
        """The row that begins with word ``start``."""
        return window(example, start, tokenizer, max_length)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """A linear layer with one output per tag."""
        return TokenHead(hidden_size, len(self.tags), dropout=self.dropout, states=self.states_read(vocabulary))

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over words; ``logits`` is ``(B, T, C)``."""
        tags = targets["tags"].flatten()
        total = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), tags, ignore_index=IGNORED, reduction="sum"
        )
        return total / (tags != IGNORED).sum().clamp(min=1)  # rows without any word count nothing

    def decode(self, example: WordsT, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> EntitiesPrediction:
        """A tag for every word as `decoding` says, read as conlleval reads them."""
        scores = torch.full((len(example.words), len(self.tags)), float("-inf"))
        scores[:, 0] = 0  # a word that the tokenizer drops is outside
        for row, found in zip(rows, logits, strict=True):
            words, tokens = [word for word, _ in row.words], [token for _, token in row.words]
            scores[words] = found[tokens].log_softmax(-1)
        best = scores.argmax(-1).tolist() if self.decoding == "greedy" else self._best_sequence(scores)
        sure = scores[torch.arange(len(best)), best].exp().tolist()
        entities = repair_entities([self.tags[tag] for tag in best])
        means = tuple(sum(sure[e.start : e.end]) / (e.end - e.start) for e in entities)
        return EntitiesPrediction(entities, means)

    def _best_sequence(self, scores: Tensor) -> list[int]:
        known = self.transitions if self.decoding == "transitions" else None
        return best_valid(scores, self.tags, known, self.transition_weight)

    def answer_key(self, prediction: EntitiesPrediction) -> str:
        """The types found, in order."""
        return " ".join(entity.type for entity in prediction.entities)


def found_text(example: WordsExample, first: int, stop: int) -> dict[str, Any]:
    """Words ``[first, stop)`` as characters of the text."""
    start, end = example.words[first].start, example.words[stop - 1].end
    return {"start": start, "end": end, "text": example.text[start:end]}


def _with_targets(row: Encoded, gold: Sequence[int]) -> Encoded:
    tags = [IGNORED] * len(row)
    for word, token in row.words:
        tags[token] = gold[word]
    return replace(row, targets={"tags": tags})


def _is_texts(value: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _join(tokens: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """Words joined by single spaces, and where each of them lies."""
    spans, at = [], 0
    for token in tokens:
        spans.append(Span(at, at + len(token)))
        at += len(token) + 1
    return " ".join(tokens), tuple(spans)
