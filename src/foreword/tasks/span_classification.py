"""Classification of texts with marked stretches: whether a word means the same twice, or two words one thing.

Sources: Pilehvar & Camacho-Collados 2019 (WiC) and Levesque et al. 2012 (WSC), both as SuperGLUE has them
(Wang et al. 2019). Marks in the text are those of Liu et al. 2022 for WSC, whose code wraps the pronoun in '*';
their WiC never looks at where the word stands. The pooled marks are of `foreword.heads.marked`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from foreword.data.alignment import chars_to_tokens, without_space
from foreword.data.batching import Encoded
from foreword.data.examples import Span, SpansExample
from foreword.data.marking import stretch_at, with_markers
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.heads import Head, MarkedHead, Vocabulary
from foreword.tasks.base import Encoding
from foreword.tasks.making.labels import LabelColumns, LabelTask
from foreword.tasks.making.pooled import Pooled
from foreword.tasks.making.truncation import longest_first


class SpanColumns(LabelColumns):
    """Which fields hold what; a dot leads into an object, as in 'target.span1_index'."""

    start: tuple[str, ...] = Field(default=("start1", "start2"), min_length=1, max_length=2)
    """Per marked stretch (one or two), where it starts: a character, counted from 0. With a pair, the second stretch
    is in the second text."""
    end: tuple[str, ...] = ("end1", "end2")
    """Per stretch, the character behind it."""
    span: tuple[str, ...] = ()
    """Per stretch, its own text: then columns.start counts words, parted by white space, columns.end is not read,
    and the text must stand at that word."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        other = "span" if self.span else "end"
        if len(getattr(self, other)) != len(self.start):
            raise ValueError(f"expected as many fields under 'start' as under '{other}', one per stretch")
        if self.span and self.end != type(self).model_fields["end"].default:
            raise ValueError("'end' has no meaning with 'span', which says how long a stretch is; leave it out")
        return self


class SpanClassification(Pooled, LabelTask[SpansExample]):
    """One label per text or pair, given one or two marked stretches in it."""

    name: ClassVar[str] = "span-classification"
    summary: ClassVar[str] = "one label for marked words in a text or a pair, as in WiC and WSC; accuracy, macro F1"

    columns: SpanColumns = SpanColumns()
    """Names of the fields in the user's files."""
    marking: Literal["pooled", "marked", "both"] = "pooled"
    """How the head learns where the stretches are: it reads the mean of each beside the text ('pooled'), or there are
    markers around them in the text ('marked'), or 'both'."""
    markers: tuple[str, str] = ("*", "#")
    """What stands around the first and around the second stretch, with spaces, where the text is marked."""

    @field_validator("markers")
    @classmethod
    def _markers_are_seen(cls, markers: tuple[str, str], info: ValidationInfo) -> tuple[str, str]:
        for marker in markers:
            if not marker or marker != marker.strip():
                raise ValueError(f"a marker is {marker!r}; expected one without white space around it")
        if info.data.get("marking") == "pooled" and markers != cls.model_fields["markers"].default:
            raise ValueError("has no meaning with marking = 'pooled', which leaves the text alone; leave it out")
        return markers

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[SpansExample]:
        """One example per record."""
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> SpansExample:
        columns = self.columns
        given = columns.texts(record, number)
        texts = [text for text in (given["text"], given["pair"]) if text is not None]
        owners = [texts[min(stretch, len(texts) - 1)] for stretch in range(len(columns.start))]
        spans = tuple(_read_span(record, columns, stretch, owner) for stretch, owner in enumerate(owners))
        if columns.pair is None and len(set(spans)) < len(spans):
            raise record.error("both stretches are the same", field=columns.start[-1])
        return SpansExample(**given, spans=spans, label=self.read_label(record, labelled=labelled))

    def encode(self, example: SpansExample, tokenizer: Any, max_length: int) -> Encoding:
        """One row; of texts that are too long, the tokens farthest from a stretch go first.

        Raises:
            DataError: the stretches alone are too long for a row, or one has no token of its own.
        """
        texts = self._texts(example)
        encoded = tokenizer(*(text.text for text in texts), return_offsets_mapping=True, verbose=False)
        parts = encoded.encodings[0]
        marks = [0] * len(parts.ids)
        cuttable = []
        for number, text in enumerate(texts):
            ours = [sequence == number for sequence in parts.sequence_ids]
            for mark, span in text.stretches:
                for i in _tokens(span, parts.offsets, ours):
                    marks[i] = mark
            kept = {i for span in text.kept for i in _tokens(span, parts.offsets, ours)}
            cuttable.append(_nearest_first([i for i, our in enumerate(ours) if our], kept))
        over = len(marks) - max_length
        if unseen := set(range(1, len(example.spans) + 1)) - set(marks):
            raise DataError(
                f"example {example.id}: stretch {min(unseen)} has no token of its own",
                hint="The tokenizer drops such characters, or the other stretch takes all of them",
            )
        if over > sum(map(len, cuttable)):
            raise DataError(
                f"example {example.id}: its marked stretches do not fit into a row of {max_length} tokens",
                hint="Shorten them, or raise training.max_length",
            )
        dropped = longest_first(cuttable, over)
        left = [i for i in range(len(marks)) if i not in dropped]
        types = encoded.get("token_type_ids")
        row = Encoded(
            input_ids=[parts.ids[i] for i in left],
            token_type_ids=None if types is None else [types[i] for i in left],
            targets=self.label_targets(example.label),
            marks=() if self.marking == "marked" else [marks[i] for i in left],
        )
        return Encoding((row,), "truncated" if dropped else None)

    def _texts(self, example: SpansExample) -> list[_Text]:
        """The text, or both, each with its stretches."""
        stretches = list(enumerate(example.spans, 1))
        if example.pair is None:
            return [self._text(example.text, stretches)]
        return [self._text(example.text, stretches[:1]), self._text(example.pair, stretches[1:])]

    def _text(self, text: str, stretches: Sequence[tuple[int, Span]]) -> _Text:
        numbers = [number for number, _ in stretches]
        inner = outer = tuple(span for _, span in stretches)
        if self.marking != "pooled":
            text, inner, outer = with_markers(text, inner, [self.markers[number - 1] for number in numbers])
        # Where one lies inside the other, the tokens of both are the inner one's.
        outer_first = sorted(zip(numbers, inner, strict=True), key=lambda one: one[1].start - one[1].end)
        return _Text(text, outer_first, outer)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """A head with one output per label that reads the marked stretches, unless markers alone tell of them."""
        labels = len(self.labels or ())
        if self.marking == "marked":
            return self.pooled_head(hidden_size, labels, vocabulary)
        return MarkedHead(
            hidden_size,
            labels,
            stretches=len(self.columns.start),
            pooling=self.pooling,
            hidden_layer=self.hidden_layer,
            dropout=self.dropout,
            states=self.states_read(vocabulary),
        )


@dataclass(frozen=True, slots=True)
class _Text:
    """A text as the tokenizer sees it.

    Attributes:
        stretches: number and characters of each, in the order in which tokens are marked.
        kept: characters that no truncation may cut.
    """

    text: str
    stretches: Sequence[tuple[int, Span]]
    kept: Sequence[Span]


def _read_span(record: Record, columns: SpanColumns, number: int, text: str) -> Span:
    """Where the stretch of that number, from 0, is in its text."""
    start = _whole_number(record, columns.start[number])
    if columns.span:
        stretch = record.text(columns.span[number])
        found = stretch_at(text, start, stretch)
        if found is None:
            there = " ".join(text.split()[max(start, 0) :][: len(stretch.split())])
            raise record.error(
                f"{stretch!r:.60} does not stand at word {start} of the text (there stands {there!r:.60})",
                field=columns.span[number],
            )
        return found
    end = _whole_number(record, columns.end[number])
    span = Span(*without_space(start, end, text))
    if not 0 <= start < end <= len(text) or span.start == span.end:
        raise record.error(
            f"characters {start} to {end} are no stretch of its text, which has {len(text)}",
            field=columns.start[number],
        )
    return span


def _whole_number(record: Record, field: str) -> int:
    value = record.value(field)
    try:
        if isinstance(value, int | str) and not isinstance(value, bool):
            return int(value)
    except ValueError:
        pass
    raise record.error(f"expected a whole number, found {value!r:.60}", field=field)


def _tokens(span: Span, offsets: Sequence[tuple[int, int]], ours: Sequence[bool]) -> range:
    """The tokens of a stretch, among those of its text."""
    found = chars_to_tokens(*span, offsets, ours)
    return range(0) if found is None else range(found[0], found[1] + 1)


def _nearest_first(tokens: Sequence[int], kept: Set[int]) -> list[int]:
    """A text's tokens but for those kept, by their distance from those; from the first token where none is kept."""
    anchors = kept or tokens[:1]
    return sorted(set(tokens) - kept, key=lambda i: (min(abs(i - anchor) for anchor in anchors), i))
