"""Examples as rows for a backbone, with the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foreword.backbones import Backbone
from foreword.data.batching import Encoded
from foreword.errors import MethodError
from foreword.tasks import Task

_LEAST = 8
"""Fewest positions that a text can be read in."""


@dataclass(frozen=True, slots=True)
class EncodedSet:
    """Examples and their rows.

    Attributes:
        examples: as the task read them.
        rows: all rows of all examples, in order.
        rows_of: per example, the numbers of its rows.
        notes: what had to be done to make examples fit -> how many examples.
        lengths: tokens per row; counted once, for every step of a run asks.
    """

    examples: Sequence[Any]
    rows: Sequence[Encoded]
    rows_of: Sequence[range]
    notes: Counter[str]
    lengths: Sequence[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", [len(row) for row in self.rows])

    def only(self, numbers: Sequence[int]) -> EncodedSet:
        """Some of the examples with their rows, in the order given; the notes are those of all."""
        rows: list[Encoded] = []
        rows_of: list[range] = []
        for number in numbers:
            own = self.rows_of[number]
            rows_of.append(range(len(rows), len(rows) + len(own)))
            rows.extend(self.rows[i] for i in own)
        return EncodedSet([self.examples[number] for number in numbers], rows, rows_of, self.notes)


def encode_examples(
    task: Task[Any, Any],
    examples: Sequence[Any],
    backbone: Backbone,
    max_length: int | None = None,
    *,
    reserved: int = 0,
) -> EncodedSet:
    """Encode every example for ``backbone``.

    Args:
        task: what the examples belong to.
        examples: as `Task.read` gave them.
        backbone: whose tokenizer is used.
        max_length: most tokens of one row; the backbone's limit if None.
        reserved: positions of a row that are not the text's, because a prompt stands there.

    Raises:
        MethodError: hardly any position is left to the text.
        TaskError: the task's texts do not suit the backbone.
    """
    task = task.suited_to(backbone)
    limit = room_for_text(backbone, max_length, reserved)
    rows: list[Encoded] = []
    rows_of: list[range] = []
    notes: Counter[str] = Counter()
    for example in examples:
        encoding = task.encode(example, backbone.tokenizer, limit)
        rows_of.append(range(len(rows), len(rows) + len(encoding.rows)))
        rows.extend(encoding.rows)
        if encoding.note is not None:
            notes[encoding.note] += 1
    return EncodedSet(examples, rows, rows_of, notes)


def room_for_text(backbone: Backbone, max_length: int | None, reserved: int) -> int:
    """Most tokens that a row can have; the arguments are those of `encode_examples`.

    Raises:
        MethodError: hardly any position is left to the text.
    """
    left = backbone.max_length - reserved
    if left < _LEAST:
        raise MethodError(
            f"the prompt takes {reserved} of the backbone's {backbone.max_length} positions and leaves {max(left, 0)} "
            "to the text. Lower method.prompt_length (or the counts of method.template)"
        )
    return left if max_length is None else min(max_length, left)


def in_words(notes: Mapping[str, int]) -> list[str]:
    """What had to be done to make inputs fit, for users."""
    return [f"{count} inputs {note}" for note, count in notes.items()]
