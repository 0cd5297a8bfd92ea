"""One input, as rows for the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foreword.backbones import Backbone
from foreword.data.batching import Encoded
from foreword.data.records import Record
from foreword.errors import TaskError, TooLongError
from foreword.inference.encoding import encode_examples
from foreword.inference.engine.handles import Handle, Member
from foreword.inference.engine.residents import Resident


@dataclass(frozen=True)
class Part:
    """What one member of a handle reads.

    Attributes:
        member: by the name it was asked for; equal artifacts may have several.
        resident: what is in memory of it, held until the job is done.
        example: as its task has read it.
        rows: of the example.
    """

    member: Member
    resident: Resident
    example: Any
    rows: tuple[Encoded, ...]


@dataclass(frozen=True, eq=False)
class Job:
    """One input, encoded for one handle. It holds all that its answer needs.

    Attributes:
        handle: who answers.
        parts: one per member.
        candidates: how many of the best answers to list.
        notes: what had to be done to make the input fit.
    """

    handle: Handle
    parts: tuple[Part, ...]
    candidates: int = 0
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in the forward pass; a mixture of K prompts reads each K times."""
        return sum(len(part.rows) * len(part.resident.prompts) for part in self.parts)

    @property
    def tokens(self) -> int:
        """Tokens of all its rows, special ones included."""
        return sum(len(row) * len(part.resident.prompts) for part in self.parts for row in part.rows)

    @property
    def longest(self) -> int:
        """Tokens of its longest row."""
        return max(len(row) for part in self.parts for row in part.rows)


def size_of(jobs: Sequence[Job]) -> int:
    """Positions of one pass over all of them, padding included."""
    return sum(job.rows for job in jobs) * max((job.longest for job in jobs), default=0)


def encode_job(
    handle: Handle,
    residents: tuple[Resident, ...],
    record: Record,
    backbone: Backbone,
    *,
    number: int,
    truncate: bool,
    candidates: int,
) -> Job:
    """Read and encode one record for every member.

    Raises:
        DataError: it lacks what the task reads.
        TooLongError: a text does not fit, and may not be cut.
        TaskError: the members of an ensemble do not read it in the same way.
    """
    parts, notes = list[Part](), dict[str, None]()
    for member, resident in zip(handle.members, residents, strict=True):
        (example,) = resident.task.read([record], labelled=False, first=number)
        encoded = encode_examples(
            resident.task, [example], backbone, member.manifest.max_length, reserved=resident.reserved
        )
        notes |= dict.fromkeys(encoded.notes)
        parts.append(Part(member, resident, example, tuple(encoded.rows)))
    if not truncate and any("truncated" in note for note in notes):
        raise TooLongError(
            f"'{handle.task}' cannot read all of this text", hint="Shorten it, or let it be cut (truncate)"
        )
    if len({tuple(map(len, part.rows)) for part in parts}) > 1:
        raise TaskError(
            f"{handle.task}: its members cut or frame this text in different ways, so they cannot answer together. "
            "Make ensembles of artifacts with the same template and max_length"
        )
    return Job(handle, tuple(parts), candidates, tuple(notes))
