"""Learning curves as drawn: places in a picture, worked out here so that the page only has to write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from foreword.studies.report.results import Contest, Run
from foreword.studies.wording import duration, method_name, percent


@dataclass(frozen=True, slots=True)
class Axis:
    """A straight map from numbers to places in a drawing, with round numbers to write beside it."""

    ticks: tuple[float, ...]
    low: float
    high: float
    start: float
    end: float

    def place(self, number: float) -> float:
        """Where ``number`` is drawn."""
        done = (number - self.low) / (self.high - self.low)
        return round(self.start + done * (self.end - self.start), 2)


@dataclass(frozen=True, slots=True)
class Dot:
    """One evaluation as drawn."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True, slots=True)
class Line:
    """One run's curve as drawn."""

    method: str
    tone: int
    is_prompt: bool
    dots: tuple[Dot, ...]

    @property
    def path(self) -> str:
        """The line in the language of SVG paths."""
        return "M" + "L".join(f"{dot.x:g} {dot.y:g}" for dot in self.dots)


@dataclass(frozen=True, slots=True)
class Chart:
    """All curves of one contest as drawn, and the same in words."""

    contest: Contest
    across: Axis
    up: Axis
    decimals: int
    lines: tuple[Line, ...]
    description: str


WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 348, 30, 206


def draw_chart(contest: Contest, tones: Mapping[str, int]) -> Chart:
    """All curves of a contest.

    Args:
        contest: at least one of its runs has a curve.
        tones: method -> number of its colour.
    """
    drawn = [run for run in contest.runs if run.curve]
    points = [point for run in drawn for point in run.curve]
    values = [point.value for point in points]
    across = axis(0, max(point.step for point in points), least=1, start=LEFT, end=RIGHT)
    up = axis(min(values), max(values), least=0.005, start=BOTTOM, end=TOP, outward=True)
    lines = [
        Line(run.method, tones[run.method], run.is_prompt, _dots(run, across, up))
        for run in sorted(drawn, key=lambda run: run.is_prompt)
    ]
    decimals = 0 if all(abs(tick * 100 - round(tick * 100)) < 1e-6 for tick in up.ticks) else 1
    return Chart(contest, across, up, decimals, tuple(lines), " ".join(map(_in_words, drawn)))


def axis(low: float, high: float, *, least: float, start: float, end: float, outward: bool = False) -> Axis:
    """An axis with about four steps of 1, 2 or 5 times a power of ten.

    Args:
        low: smallest number to show.
        high: greatest number to show.
        least: smallest step between ticks.
        start: where the smallest number is drawn.
        end: where the greatest number is drawn.
        outward: widen the axis to the next ticks.
    """
    step = _round_step(max((high - low) / 4, least))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if outward:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        first, last = (first, last) if first < last else (max(first - 1, 0), max(last, 1))
        low, high = first * step, last * step
    ticks = tuple(round(index * step, 9) for index in range(first, last + 1))
    return Axis(ticks, low, max(high, low + least), start, end)


def _round_step(step: float) -> float:
    """The next of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= step * (1 - 1e-9))


def _dots(run: Run, across: Axis, up: Axis) -> tuple[Dot, ...]:
    return tuple(
        Dot(
            across.place(point.step),
            up.place(point.value),
            f"{method_name(run.method)}: {percent(point.value)} at step {point.step:,}, "
            f"{duration(point.seconds)}, training loss {point.train_loss:.3g}",
        )
        for point in run.curve
    )


def _in_words(run: Run) -> str:
    first, last = run.curve[0], run.curve[-1]
    best = max(run.curve, key=lambda point: point.value)
    return (
        f"{method_name(run.method)} goes from {percent(first.value)} at step {first.step:,} "
        f"to {percent(last.value)} at step {last.step:,}; best {percent(best.value)} at step {best.step:,}."
    )
