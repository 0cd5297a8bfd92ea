"""Several runs in lockstep over one backbone: what they read next is read in one pass, each row with its own prompt.

All else each run does for itself: its prompt and head are computed, clipped, stepped, evaluated and kept as if it were
alone. No parameter belongs to two runs, so one backward pass of the sum of their losses gives each its own gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from foreword.backbones import TrunkCaches
from foreword.data.batching import joined, sorted_batches
from foreword.injection import Injection, Prompt
from foreword.model import PromptedModel, Reading
from foreword.training.loop import Outcome, Part, Trainer, stopping

T = TypeVar("T")


class Draws:
    """The state of torch's generators that one of several runs draws from. Others draw from theirs in between."""

    def __init__(self) -> None:
        self._own: list[Tensor] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """While it lasts, random numbers are those of this run; at first it goes on with whatever there are."""
        outside = _states()
        if self._own is not None:
            _restore(self._own)
        try:
            yield
        finally:
            self._own = _states()
            _restore(outside)


def _states() -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])]


def _restore(states: Sequence[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)


class Run:
    """One of the runs.

    Args:
        trainer: made, and resumed, inside ``draws``.
        draws: its own.

    Attributes:
        part: what it wants the gradient of; None when it is over.
        end: what it came to, or what ended it.
    """

    def __init__(self, trainer: Trainer, draws: Draws) -> None:
        self.trainer, self.draws = trainer, draws
        self.part: Part | None = None
        self.end: Mapping[str, Outcome] | Exception | None = None
        self._course = trainer.course()

    def begin(self) -> None:
        """Go to the first part."""
        self._go(lambda: next(self._course))

    def go_on(self, loss: float) -> None:
        """Go to the next part: step, evaluate and save as it comes."""
        self._go(lambda: self._course.send(loss))

    def _go(self, on: Callable[[], Part]) -> None:
        with self.draws():
            try:
                self.part = on()
            except StopIteration as over:
                self.part, self.end = None, over.value
            except Exception as error:  # it ends this run, not the others
                self.part, self.end = None, error


def fit_in_lockstep(runs: Sequence[Run]) -> None:
    """Take several runs to their ends, each to its own; whatever ends one early is kept with it.

    Args:
        runs: on one backbone that none of them changes, of one precision, and alike in dropout inside the backbone.
    """
    with stopping([run.trainer for run in runs]):
        for run in runs:
            run.begin()
        while going := [run for run in runs if run.part is not None]:
            for run, loss in zip(going, _gradients(going), strict=True):
                run.go_on(loss)


@dataclass(frozen=True)
class _Turn:
    """What one run reads next."""

    run: Run
    part: Part
    reading: Reading

    @property
    def model(self) -> PromptedModel:
        return self.part.lane.model

    @property
    def rows(self) -> int:
        return len(self.reading.batch.input_ids)


def _gradients(runs: Sequence[Run]) -> list[float]:
    """Add the gradient of what each run has next; losses, in order."""
    precision = runs[0].trainer.precision
    runs[0].trainer.models.backbone.train()  # once for all; any of them may have been evaluated
    with precision():
        turns = [_turn(run) for run in runs]
    losses: dict[Run, Tensor] = {}
    limits = [run.trainer.most_tokens for run in runs]
    for company in _companies(turns, min((most for most in limits if most is not None), default=None)):
        with precision():
            logits = _logits(company)
        found = [turn.part.loss(one) for turn, one in zip(company, logits, strict=True)]
        torch.autograd.backward(torch.stack(found).sum())
        losses |= {turn.run: loss for turn, loss in zip(company, found, strict=True)}
    return [losses[run].item() for run in runs]


def _turn(run: Run) -> _Turn:
    assert run.part is not None
    model = run.part.lane.model
    for part in model.parts().values():
        part.train()
    with run.draws():
        return _Turn(run, run.part, model.reading(run.part.batch))


def _companies(turns: Sequence[_Turn], most_tokens: int | None) -> Iterator[list[_Turn]]:
    """Turns that share a pass, which has at most so many positions if it is not of one alone."""
    for alike in grouped(turns, _pass_of):
        lengths = [turn.reading.batch.input_ids.shape[1] for turn in alike]
        sizes = [turn.rows for turn in alike]
        for numbers in sorted_batches(lengths, sum(sizes), most_tokens=most_tokens, rows=sizes):
            yield [alike[number] for number in numbers]


def _pass_of(turn: _Turn) -> tuple[object, ...]:
    """Turns for which it is the same share a pass: where it begins, and by how much positions are shifted."""
    trunk = turn.model.trunk
    shifts = max((prompt.length for prompt in turn.reading.prompts if prompt.shift_positions), default=0)
    return (None if trunk is None else (trunk.layer, trunk.every_layer), shifts)


def grouped(items: Sequence[T], key: Callable[[T], object]) -> list[list[T]]:
    """Items that are alike, together; in order of the first of each."""
    groups: dict[object, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _logits(turns: Sequence[_Turn]) -> list[Tensor]:
    """Logits of every model for its own rows, out of one pass."""
    first = turns[0]
    if len(turns) == 1:
        with first.run.draws():
            return [first.model.logits(first.reading)]
    backbone, sizes = first.model.backbone, [turn.rows for turn in turns]
    ids, mask, types = joined([turn.reading.batch for turn in turns], backbone.tokenizer.pad_token_id)
    caches = [turn.model.trunk for turn in turns if turn.model.trunk is not None]
    with first.model.adapted(), first.run.draws():
        hidden = backbone(
            ids,
            mask,
            types,
            _injection([turn.reading for turn in turns], ids.device),
            every_layer=any(turn.model.head.every_layer for turn in turns),
            cache=TrunkCaches(caches, sizes) if caches else None,
        )
    return [_answered(turn, own) for turn, own in zip(turns, torch.split(hidden, sizes), strict=True)]


def _answered(turn: _Turn, hidden: Tensor) -> Tensor:
    """Logits of one model for its own rows, which others may have padded further."""
    with turn.run.draws():
        return turn.model.answers(hidden[:, : turn.reading.batch.input_ids.shape[1]], turn.reading)


def _injection(readings: Sequence[Reading], device: torch.device) -> Injection:
    """All their prompts in one bank. Whoever has none reads one that is empty."""
    bank: list[Prompt] = []
    rows: list[Tensor] = []
    for reading in readings:
        rows.append(reading.rows + len(bank))
        bank.extend(reading.prompts or (Prompt(),))
    return Injection(bank, torch.cat(rows).to(device))
