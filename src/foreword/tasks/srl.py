"""Semantic role labelling as sequence tagging, one proposition (a predicate and its roles) at a time.

Source: Liu et al. 2022, appendix A: the predicate is told by putting it behind the sentence. Indicators in its place
as in Zhou and Xu 2015; a classifier that reads a token's state beside the predicate's as in Shi and Lin 2019.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import PositiveInt, ValidationInfo, field_validator

from foreword.data.examples import PropositionExample, WordsExample
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.heads import Head, MarkedTokenHead, Vocabulary
from foreword.metrics.roles import CONTINUATION, PREDICATE, REFERENCE, role_scores
from foreword.metrics.scores import Scores
from foreword.tasks.making.tagging import EntitiesPrediction, Tagging, WordColumns, found_text
from foreword.tasks.making.windows import Window, window

_PROPBANK = re.compile(r"A(RG)?([0-5A](-[A-Z]+)?|M-[A-Z]+)")
"""Roles of PropBank, in the letters of CoNLL-2005 or of OntoNotes: numbered ones and modifiers."""
_RANK = 32
"""Of what the head reads of the states between a word and the predicate."""


class SRLColumns(WordColumns):
    """Which fields hold what."""

    predicate: str = "predicate"
    """Number of the predicate's word, counted from 0, or a list of numbers where it has several words."""


class SRL(Tagging[PropositionExample]):
    """The roles that stretches of words have for a given predicate."""

    name: ClassVar[str] = "srl"
    summary: ClassVar[str] = "semantic roles of a predicate, from brackets or tags; argument F1 as srl-eval.pl"
    kind: ClassVar[str] = "role"
    first_defaults: ClassVar[Mapping[str, Any]] = {"decoding": "constrained", "between": False}

    columns: SRLColumns = SRLColumns()
    """Names of the fields in the user's files."""
    mark: Literal["appended", "indicator", "both"] = "indicator"
    """How the predicate is told: 'appended' behind the sentence as a second text; by an 'indicator' in its place, which
    is a segment number where the backbone has them, and a head that reads its state beside each token's; or 'both'."""
    head_width: PositiveInt = 128
    """Width of the layer in which the head of an indicator brings the two states together."""
    between: bool = True
    """Whether that head is told as well what stands between a word and the predicate, the mean of its states."""

    @field_validator("head_width", "between")
    @classmethod
    def _has_a_meaning(cls, value: int | bool, info: ValidationInfo) -> int | bool:
        if info.data.get("mark") == "appended" and value != cls.model_fields[str(info.field_name)].default:
            raise ValueError("has no meaning with mark = 'appended'; leave it out")
        return value

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[PropositionExample]:
        """One example per predicate."""
        return [
            PropositionExample(
                id=sentence.id,
                text=sentence.text,
                words=sentence.words,
                entities=sentence.entities,
                predicate=self._predicate(record, sentence),
            )
            for record, sentence in self.sentences(records, labelled=labelled, first=first)
        ]

    def _predicate(self, record: Record, sentence: WordsExample) -> tuple[int, ...]:
        value, field, count = record.value(self.columns.predicate), self.columns.predicate, len(sentence.words)
        numbers = value if isinstance(value, list | tuple) else [value]
        if not numbers or any(type(number) is not int or not 0 <= number < count for number in numbers):
            raise record.error(
                f"expected the number of a word from 0 to {count - 1}, or a list of such, found {value!r:.60}",
                field=field,
            )
        return tuple(sorted(set(numbers)))

    def may_be_new(self, type_: str) -> bool:
        """Pieces (C-) of known roles, references (R-) to them, and roles of PropBank: most files have rare ones."""
        known = {_plain(label) for label in self.labels or ()}
        return _plain(type_) in known or _PROPBANK.fullmatch(_plain(type_)) is not None

    def window(self, example: PropositionExample, start: int, tokenizer: Any, max_length: int) -> Window:
        """The row that begins with word ``start``; the predicate is told in every one.

        Where it is told in its place alone, a window without it has it behind, and there it is marked.

        Raises:
            DataError: the predicate is so long that no room is left for the sentence.
        """
        if self.mark == "indicator":
            found = window(example, start, tokenizer, max_length)
            if _holds(found, start, example.predicate):
                return _marked(found, example)
        behind = _spelled(example)
        taken = len(tokenizer(behind, add_special_tokens=False, verbose=False)["input_ids"])
        if taken + tokenizer.num_special_tokens_to_add(pair=True) >= max_length:
            raise DataError(
                f"proposition {example.id}: its predicate{behind:.60} leaves no room for the sentence in a row of "
                f"{max_length} tokens",
                hint="Raise training.max_length",
            )
        found = window(example, start, tokenizer, max_length, behind)
        if self.mark == "appended":
            return found
        return _marked(found, example, in_place=_holds(found, start, example.predicate))

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """One output per tag, out of a token's state or of its and the predicate's."""
        if self.mark == "appended":
            return super().build_head(hidden_size, vocabulary)
        return MarkedTokenHead(
            hidden_size,
            len(self.tags),
            width=self.head_width,
            dropout=self.dropout,
            states=self.states_read(vocabulary),
            between=_RANK if self.between else 0,
        )

    def score(self, examples: Sequence[PropositionExample], predictions: Sequence[EntitiesPrediction]) -> Scores:
        """Micro precision, recall and F1 over whole arguments."""
        return role_scores([e.entities or () for e in examples], [p.entities for p in predictions])

    def to_json(self, example: PropositionExample, prediction: EntitiesPrediction) -> dict[str, Any]:
        """The text, the predicate's words, and its roles with character offsets."""
        pairs = zip(prediction.entities, prediction.probabilities, strict=True)
        return {
            "id": example.id,
            "text": example.text,
            "predicate": [found_text(example, word, word + 1) for word in example.predicate],
            "roles": [
                {"role": role.type, **found_text(example, role.start, role.end), "probability": round(probability, 6)}
                for role, probability in pairs
                if role.type.removeprefix(CONTINUATION) != PREDICATE
            ],
        }


def _plain(role: str) -> str:
    return role.removeprefix(CONTINUATION).removeprefix(REFERENCE)


def _spelled(example: PropositionExample) -> str:
    """The predicate's words, each with the space before it that tokenizers may take for a part of it."""
    return "".join(f" {example.text[start:end]}" for start, end in (example.words[i] for i in example.predicate))


def _holds(found: Window, start: int, predicate: Sequence[int]) -> bool:
    return all(start <= word < found.stop for word in predicate)


def _marked(found: Window, example: PropositionExample, *, in_place: bool = True) -> Window:
    """The window with marks on the predicate's tokens, in its place in the sentence or else behind it."""
    spans = [example.words[i] for i in example.predicate]
    in_sentence = [any(a < span.end and span.start < b for span in spans) for a, b in found.offsets]
    marks = [int(mark) for mark in (in_sentence if in_place else found.behind)]
    types = found.row.token_type_ids
    if types is not None:
        types = [max(pair) for pair in zip(types, marks, strict=True)]
    return replace(found, row=replace(found.row, marks=marks, token_type_ids=types))
