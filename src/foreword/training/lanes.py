"""What a run is made of: a lane per task, and the stream of steps that takes turns among them."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from foreword.data.batching import bucketed_batches, sorted_batches, token_batches
from foreword.inference.encoding import EncodedSet
from foreword.model import PromptedModel
from foreword.tasks import Task
from foreword.training.mixing import Mixing, shares
from foreword.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Lane:
    """One task of a run; most runs have a single one.

    Attributes:
        name: of the task in this run.
        model: shares all but its head with the models of the other lanes.
        task: whose loss and score are used.
        train, dev: encoded examples.
    """

    name: str
    model: PromptedModel
    task: Task[Any, Any]
    train: EncodedSet
    dev: EncodedSet

    @property
    def units(self) -> int:
        """Rows of the training data, or examples where their rows must stay together."""
        return len(self.train.rows_of if self.task.together else self.train.rows)

    def units_of(self, rows: Sequence[int]) -> list[Sequence[int]]:
        """The rows of a batch, those of one example together where they must stay so."""
        if not self.task.together:
            return [[row] for row in rows]
        units, place = list[Sequence[int]](), 0
        while place < len(rows):
            number = bisect_right(self.train.rows_of, rows[place], key=lambda own: own.start) - 1
            units.append(self.train.rows_of[number])
            place += len(units[-1])
        return units

    def pieces(self, rows: list[int], most_tokens: int | None) -> list[list[int]]:
        """A batch in pieces of at most so many positions, rows of similar length together; whole if it has no more."""
        units = self.units_of(rows)
        lengths, sizes = [max(self.train.lengths[row] for row in unit) for unit in units], [len(u) for u in units]
        found = list(sorted_batches(lengths, len(rows), most_tokens=most_tokens, rows=sizes))
        return [rows] if len(found) == 1 else [[row for number in piece for row in units[number]] for piece in found]

    def batches(self, settings: TrainingSettings, number: int) -> list[list[int]]:
        """The rows of every batch of one pass over the training data, passes counted from 0; equally many in each."""
        lengths, groups = self.train.lengths, self.train.rows_of if self.task.together else None
        if settings.batch_tokens is not None:
            return token_batches(lengths, settings.batch_tokens, seed=settings.seed, epoch=number, groups=groups)
        return bucketed_batches(lengths, settings.batch_size, seed=settings.seed, epoch=number, groups=groups)

    def steps(self, settings: TrainingSettings) -> int:
        """Optimizer steps of one pass."""
        return math.ceil(len(self.batches(settings, 0)) / settings.accumulation_steps)


class Step(NamedTuple):
    """What one step of the optimizer sees: rows of a single task, in parts whose gradients are added up."""

    lane: Lane
    parts: list[list[int]]


class Stream:
    """The steps of a run.

    An epoch gives every task its share of steps, in random order; with one task it is a pass over its data. Each
    task goes through its own data pass after pass, wherever epochs begin, so no row waits longer than others. All
    follows from the arguments: a run can be taken up inside an epoch.

    Args:
        lanes: one per task.
        settings: size of batches, accumulation and seed.
        mixing: how tasks share the steps.
    """

    def __init__(self, lanes: Sequence[Lane], settings: TrainingSettings, mixing: Mixing) -> None:
        self._lanes, self._settings = lanes, settings
        self._passes = [lane.steps(settings) for lane in lanes]
        counted = [min(lane.units, mixing.cap or lane.units) for lane in lanes]
        sizes = [
            max(1, steps * rows // lane.units) for lane, steps, rows in zip(lanes, self._passes, counted, strict=True)
        ]
        self.shares = shares(sizes, mixing.temperature)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return sum(self.shares)

    def epoch(self, number: int) -> list[Step]:
        """The steps of one epoch, counted from 0."""
        order = [place for place, share in enumerate(self.shares) for _ in range(share)]
        random.Random(f"{self._settings.seed}/{number}/mixing").shuffle(order)
        waiting = [
            self._steps(lane, per_pass, number * share, share)
            for lane, per_pass, share in zip(self._lanes, self._passes, self.shares, strict=True)
        ]
        return [next(waiting[place]) for place in order]

    def _steps(self, lane: Lane, per_pass: int, first: int, count: int) -> Iterator[Step]:
        """Steps ``first`` and on of one task, pass after pass."""
        parts = self._settings.accumulation_steps
        number, skipped = divmod(first, per_pass)
        while count > 0:
            batches = lane.batches(self._settings, number)
            found = [Step(lane, batches[i : i + parts]) for i in range(0, len(batches), parts)]
            yield from found[skipped : skipped + count]
            count -= per_pass - skipped
            number, skipped = number + 1, 0
