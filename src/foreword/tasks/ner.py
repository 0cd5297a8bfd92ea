"""Named entities as sequence tagging.

Source: Liu et al. 2022, appendix A: IOB2 tags, a linear classifier on each word's first sub-token.
A sentence longer than the backbone allows is read in windows of whole words, so no label is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, TypeGuard

import torch
from pydantic import Field
from torch import Tensor

from foreword.data.alignment import first_tokens
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
from foreword.heads import TokenHead, Vocabulary
from foreword.metrics.scores import Scores
from foreword.metrics.sequence import entity_scores
from foreword.tasks.base import Columns, Encoding, Task


@dataclass(frozen=True, slots=True)
class EntitiesPrediction:
    """Entities over words, each with the mean probability of its tags, in [0, 1]."""

    entities: tuple[Entity, ...]
    probabilities: tuple[float, ...]


class NERColumns(Columns):
    """Which fields hold what."""

    tokens: str = "tokens"
    """A list of words. Where a record has none, its text is cut into words."""
    tags: str = "tags"
    """A list of tags, one per word."""
    text: str = "text"
    """A plain text, for data without a list of words."""
    id: str = "id"
    """A name for the example, if the data has one."""


class NER(Task[WordsExample, EntitiesPrediction]):
    """Typed, non-overlapping spans of words."""

    name: ClassVar[str] = "ner"
    summary: ClassVar[str] = "named entities from IOB1, IOB2 or BIOES tags; entity F1 as conlleval"

    columns: NERColumns = NERColumns()
    """Names of the fields in the user's files."""
    scheme: Literal["auto", "IOB1", "IOB2", "BIOES"] = "auto"
    """How the files' tags are written; 'auto' finds it from the training data."""
    invalid_tags: Literal["error", "repair"] = "error"
    """What to do with a tag that its scheme forbids: stop, or read the sentence as conlleval would."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the head."""

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[WordsExample]:
        """One example per sentence or text."""
        kept = list(records)
        scheme = self._scheme_of(kept) if self.scheme == "auto" else self.scheme
        return [self._example(number, record, labelled, scheme) for number, record in enumerate(kept, first)]

    def _scheme_of(self, records: Sequence[Record]) -> str:
        candidates = [record.fields.get(self.columns.tags) for record in records]
        sequences = [tags for tags in candidates if _is_texts(tags)]
        try:
            return detect_scheme(sequences)
        except TagError:
            return "IOB2"  # the strict reading below then points at the first bad line

    def _example(self, number: int, record: Record, labelled: bool, scheme: str) -> WordsExample:
        id_ = str(record.fields.get(self.columns.id, number))
        if self.columns.tokens not in record.fields and self.columns.text in record.fields and not labelled:
            text = record.text(self.columns.text)
            return WordsExample(id=id_, text=text, words=word_spans(text))
        tokens = record.value(self.columns.tokens)
        if not (_is_texts(tokens) and tokens and all(token.strip() for token in tokens)):
            raise record.error("expected a list of words that are not empty", field=self.columns.tokens)
        text, words = _join(tokens)
        entities = None
        if labelled or self.columns.tags in record.fields:
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
            lines = record.fields.get("lines")
            at = Record(record.fields, record.file, lines[error.index]) if lines else record
            raise at.error(
                str(error),
                field=self.columns.tags,
                hint="Set task.scheme if it is another one, or task.invalid_tags = 'repair'",
            ) from error

    def with_labels_from(self, examples: Sequence[WordsExample]) -> Self:
        """All entity types that occur, sorted."""
        if self.labels is not None:
            return self
        found = {entity.type for example in examples for entity in example.entities or ()}
        return self.model_copy(update={"labels": tuple(sorted(found))})

    def check_labels(self, records: Sequence[Record], examples: Sequence[WordsExample]) -> None:
        """Refuse an entity type that training never saw."""
        known = set(self.labels or ())
        for record, example in zip(records, examples, strict=True):
            for entity in example.entities or ():
                if entity.type not in known:
                    raise record.error(
                        f"entity type '{entity.type}' does not occur in the training data",
                        field=self.columns.tags,
                        hint=f"Known types: {', '.join(sorted(known))}",
                    )

    @property
    def tags(self) -> tuple[str, ...]:
        """The head's outputs: O, then B- and I- of every type."""
        return ("O", *(f"{prefix}-{label}" for label in self.labels or () for prefix in "BI"))

    def encode(self, example: WordsExample, tokenizer: Any, max_length: int) -> Encoding:
        """Rows of whole words; the tag stands on each word's first sub-token, others are ignored."""
        gold = None
        if example.entities is not None:
            tag_ids = {tag: number for number, tag in enumerate(self.tags)}
            tags = entities_to_tags(example.entities, len(example.words), "IOB2")
            gold = [tag_ids.get(tag, IGNORED) for tag in tags]
        rows, start = [], 0
        while start < len(example.words):
            row, start = self._window(example, gold, start, tokenizer, max_length)
            rows.append(row)
        dropped = len(example.words) - len({word for row in rows for word, _ in row.words})
        note = "split into windows" if len(rows) > 1 else "with words the tokenizer drops" if dropped else None
        return Encoding(tuple(rows), note)

    def _window(
        self, example: WordsExample, gold: list[int] | None, start: int, tokenizer: Any, max_length: int
    ) -> tuple[Encoded, int]:
        """The words from ``start`` that fit into one row, and where the next row begins."""
        base = example.words[start].start
        encoded = tokenizer(
            example.text[base:],
            truncation=True,
            max_length=max_length,
            return_offsets_mapping=True,
            verbose=False,
        )
        parts = encoded.encodings[0]
        reads = [not special for special in parts.special_tokens_mask]
        offsets = [(a + base, b + base) if r else (0, 0) for (a, b), r in zip(parts.offsets, reads, strict=True)]
        stop = len(example.words)
        if parts.overflowing:
            reached = max((end for (_, end), r in zip(offsets, reads, strict=True) if r), default=base)
            # The last word may be cut in the middle, so it moves to the next row, unless it is alone.
            whole = [i for i in range(start, stop) if example.words[i].end <= reached]
            stop = max(whole[-1] if len(whole) > 1 else start + 1, start + 1)
        heads = first_tokens(example.words[start:stop], offsets, reads)
        words = tuple((start + i, token) for i, token in enumerate(heads) if token is not None)
        targets: dict[str, int | list[int]] = {}
        if gold is not None:
            tags = [IGNORED] * len(offsets)
            for word, token in words:
                tags[token] = gold[word]
            targets["tags"] = tags
        row = Encoded(
            input_ids=encoded["input_ids"],
            token_type_ids=encoded.get("token_type_ids"),
            targets=targets,
            words=words,
        )
        return row, stop

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> TokenHead:
        """A linear layer with one output per tag."""
        del vocabulary
        return TokenHead(hidden_size, len(self.tags), dropout=self.dropout)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over words; ``logits`` is ``(B, T, C)``."""
        tags = targets["tags"].flatten()
        total = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), tags, ignore_index=IGNORED, reduction="sum"
        )
        return total / (tags != IGNORED).sum().clamp(min=1)  # rows without any word count nothing

    def decode(self, example: WordsExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> EntitiesPrediction:
        """The best tag of every word, read as conlleval reads it."""
        tags, sure = ["O"] * len(example.words), [1.0] * len(example.words)
        for row, scores in zip(rows, logits, strict=True):
            best = scores.softmax(-1).max(-1)
            for word, token in row.words:
                tags[word] = self.tags[int(best.indices[token])]
                sure[word] = float(best.values[token])
        entities = repair_entities(tags)
        means = tuple(sum(sure[e.start : e.end]) / (e.end - e.start) for e in entities)
        return EntitiesPrediction(entities, means)

    def score(self, examples: Sequence[WordsExample], predictions: Sequence[EntitiesPrediction]) -> Scores:
        """Micro precision, recall and F1 over whole entities."""
        return entity_scores([e.entities or () for e in examples], [p.entities for p in predictions])

    def to_json(self, example: WordsExample, prediction: EntitiesPrediction) -> dict[str, Any]:
        """The text and its entities with character offsets."""
        entities = []
        for entity, probability in zip(prediction.entities, prediction.probabilities, strict=True):
            start, end = example.words[entity.start].start, example.words[entity.end - 1].end
            entities.append(
                {
                    "type": entity.type,
                    "start": start,
                    "end": end,
                    "text": example.text[start:end],
                    "probability": round(probability, 6),
                }
            )
        return {"id": example.id, "text": example.text, "entities": entities}

    def answer_key(self, prediction: EntitiesPrediction) -> str:
        """The types found, in order."""
        return " ".join(entity.type for entity in prediction.entities)


def _is_texts(value: Any) -> TypeGuard[Sequence[str]]:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _join(tokens: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """Words joined by single spaces, and where each of them lies."""
    spans, at = [], 0
    for token in tokens:
        spans.append(Span(at, at + len(token)))
        at += len(token) + 1
    return " ".join(tokens), tuple(spans)
