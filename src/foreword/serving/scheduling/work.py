"""One input that waits for its forward pass, and what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol


class Asked(Protocol):
    """Whose input it is, as far as taking turns goes."""

    @property
    def task(self) -> str:
        """Name of the task: inputs of one name share its turns."""

    @property
    def writes(self) -> bool:
        """Whether answers are written, which takes many steps; such inputs have batches of their own."""


class Job(Protocol):
    """An encoded input, as far as making batches goes."""

    @property
    def handle(self) -> Asked:
        """Whose it is."""

    @property
    def rows(self) -> int:
        """Rows it puts into a batch."""

    @property
    def tokens(self) -> int:
        """Tokens of all of them."""

    @property
    def longest(self) -> int:
        """Tokens of the longest."""


class Expired(Exception):  # noqa: N818  not an error: nothing failed
    """Its time was over before it was begun."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a forward pass gave for one input.

    Attributes:
        answer: what the engine returned; or the error, if there is no answer.
        waited: seconds from being put down to the start of the pass.
        forward: seconds of the pass.
        rows, tasks: how many were in the batch.
    """

    answer: dict[str, Any] | Exception
    waited: float
    forward: float = 0.0
    rows: int = 0
    tasks: int = 0


@dataclass(eq=False, slots=True)
class Group:
    """The inputs of one request.

    Attributes:
        outcomes: in the order of its jobs; None while one waits.
        done: set once there is none left to wait for.
    """

    outcomes: list[Outcome | None]
    done: asyncio.Future[None]
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.outcomes)

    def take(self, number: int, outcome: Outcome) -> None:
        """Keep what became of one input."""
        self.outcomes[number] = outcome
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)


@dataclass(eq=False, slots=True)
class Work:
    """One input in the queue.

    Attributes:
        job: its rows.
        deadline: when it is of no use any more (`time.monotonic`).
        arrived: when it was put down.
        group, number: whose it is, and its place there.
        turn: its round and number, by which the queue is ordered; the queue's own.
        passed: how many batches went before it though it was earlier in order; the queue's own.
    """

    job: Job
    deadline: float
    arrived: float
    group: Group
    number: int
    turn: tuple[int, int] = (0, 0)
    passed: int = 0


@dataclass(frozen=True, eq=False)
class Pass:
    """A forward pass that is over.

    Attributes:
        works: what was in it.
        seconds: it took.
        waits: seconds that each had waited.
    """

    works: Sequence[Work]
    seconds: float
    waits: Sequence[float]

    @cached_property
    def rows(self) -> int:
        """Rows of all of them."""
        return sum(work.job.rows for work in self.works)

    @cached_property
    def tasks(self) -> int:
        """Tasks among them."""
        return len({work.job.handle.task for work in self.works})

    @cached_property
    def tokens(self) -> int:
        """Tokens of all of them."""
        return sum(work.job.tokens for work in self.works)

    @cached_property
    def padded(self) -> int:
        """The same with padding."""
        return self.rows * max(work.job.longest for work in self.works)
