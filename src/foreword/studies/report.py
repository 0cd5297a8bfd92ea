"""One HTML page about a study: what each method reached on each task, and at what cost.

The page needs nothing but itself: style and charts are inline, and it asks the network for nothing.
The same input gives the same bytes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from foreword.errors import OutputError

PROMPT, FULL = "ptuning-v2", "fine-tuning"
"""The method the page is about, and the baseline it is measured by."""

_METHODS = {PROMPT: "P-Tuning v2", FULL: "Fine-tuning", "head-only": "Head only"}
_METRICS = {"f1": "F1", "em": "exact match"}
_TONES = 6
"""How many colours, with a dash and a marker each, the template has."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One evaluation during training.

    Attributes:
        step: optimizer steps taken so far.
        seconds: time trained so far.
        train_loss: mean loss since the point before.
        value: the run's metric on development data, a fraction in [0, 1].
    """

    step: int
    seconds: float
    train_loss: float
    value: float

    def __post_init__(self) -> None:
        _check_fraction("value", self.value)


@dataclass(frozen=True, slots=True)
class Run:
    """One method trained on one task.

    Attributes:
        task: what is to be predicted, such as 'classification'.
        data: what it was trained and measured on.
        method: name of the method; a variant's name starts with it ('ptuning-v2 mlp').
        metric: name of the metric, such as 'accuracy' or 'f1'.
        value: the metric, a fraction in [0, 1].
        trained_parameters: how many numbers were trained.
        backbone_parameters: how many numbers the backbone has.
        file_bytes: size of what has to be kept for this task.
        seconds: how long training took.
        curve: the evaluations during training, in order; may be empty.

    Raises:
        ValueError: a value is no fraction, a size is negative, or steps do not rise.
    """

    task: str
    data: str
    method: str
    metric: str
    value: float
    trained_parameters: int
    backbone_parameters: int
    file_bytes: int
    seconds: float
    curve: tuple[CurvePoint, ...]

    def __post_init__(self) -> None:
        _check_fraction("value", self.value)
        if self.backbone_parameters < 1:
            raise ValueError(f"a backbone of {self.backbone_parameters} parameters")
        if min(self.trained_parameters, self.file_bytes, self.seconds) < 0:
            raise ValueError(f"'{self.method}' on '{self.task}' has a negative size or time")
        if any(before.step >= after.step for before, after in pairwise(self.curve)):
            raise ValueError(f"the curve of '{self.method}' on '{self.task}' has steps that do not rise")

    @property
    def is_prompt(self) -> bool:
        """Whether this is the method the page is about, or a variant of it."""
        return self.method.startswith(PROMPT)

    @property
    def backbone_share(self) -> float:
        """Trained parameters per parameter of the backbone."""
        return self.trained_parameters / self.backbone_parameters


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled stretch of characters, ``[start, end)``."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One prediction, to be looked at.

    Attributes:
        task: the task it belongs to, as in `Run`.
        text: what was read.
        marks: what was found in ``text``, sorted and free of overlaps.
        prediction: the prediction in words; may be empty where the marks say it all.
        expected: the gold answer in words, where there is one.
        correct: whether the prediction is right, where that is known.
        question: what was asked about ``text``.

    Raises:
        ValueError: marks are unsorted, overlap, are empty, or leave the text.
    """

    task: str
    text: str
    marks: tuple[Mark, ...]
    prediction: str
    expected: str | None
    correct: bool | None
    question: str | None = None

    def __post_init__(self) -> None:
        for mark in self.marks:
            if not 0 <= mark.start < mark.end <= len(self.text):
                raise ValueError(f"{mark} is empty or leaves a text of {len(self.text)} characters")
        for before, after in pairwise(self.marks):
            if after.start < before.end:
                raise ValueError(f"{after} overlaps or comes before {before}")

    def segments(self) -> Iterator[tuple[str, str | None]]:
        """The whole text in pieces, each with its mark's label or ``None``."""
        done = 0
        for mark in self.marks:
            if done < mark.start:
                yield self.text[done : mark.start], None
            yield self.text[mark.start : mark.end], mark.label
            done = mark.end
        if done < len(self.text):
            yield self.text[done:], None


@dataclass(frozen=True, slots=True)
class Contest:
    """The runs that can be compared: same task, same data, same metric."""

    task: str
    data: str
    metric: str
    runs: tuple[Run, ...]

    @property
    def full(self) -> Run | None:
        """The fine-tuned run, where there is one."""
        return next((run for run in self.runs if run.method == FULL), None)

    @property
    def prompt(self) -> Run | None:
        """The best run of the method the page is about."""
        return max((run for run in self.runs if run.is_prompt), key=lambda run: run.value, default=None)

    def of_full(self, run: Run) -> float | None:
        """What ``run`` reaches per point that fine-tuning reaches."""
        return run.value / self.full.value if self.full and self.full.value else None


def contests(runs: Sequence[Run]) -> list[Contest]:
    """The runs, grouped by what can be compared, all in the order given."""
    grouped: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.task, run.data, run.metric), []).append(run)
    return [Contest(*key, tuple(members)) for key, members in grouped.items()]


def write_report(
    path: Path,
    *,
    title: str,
    intro: str,
    runs: Sequence[Run],
    shown: Sequence[Shown],
    facts: Mapping[str, str],
) -> None:
    """Write the page to ``path``, at once or not at all; what was there is replaced.

    Args:
        path: the file to write.
        title: heading of the page.
        intro: what was studied, in a sentence or three.
        runs: the results.
        shown: example predictions; may be empty.
        facts: what else to know: backbone, versions, seed, and so on.

    Raises:
        ValueError: there are no runs.
        OutputError: the file cannot be written.
    """
    grouped = contests(runs)
    tones = _tones(runs)
    page = _template().render(
        title=title,
        intro=intro,
        headline=headline(runs),
        contests=grouped,
        tones=tones,
        charts=[_chart(contest, tones) for contest in grouped if any(run.curve for run in contest.runs)],
        shown=_by_task(shown),
        label_tones=_label_tones(shown),
        facts=facts,
    )
    _write_atomically(path, page.encode("utf-8", "xmlcharrefreplace"))


def headline(runs: Sequence[Run]) -> str:
    """What the study says, in one sentence.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("no runs to report")
    prompted = [(run, contest.full) for contest in contests(runs) if (run := contest.prompt)]
    compared = [(run, full) for run, full in prompted if full and full.value]
    if compared:
        return _against_full(compared)
    if prompted:
        scores = _listed([_score(run) for run, _ in prompted])
        shares = _span([run.backbone_share for run, _ in prompted])
        return f"{_METHODS[PROMPT]} reaches {scores}, training {shares} of the backbone's size."
    best = max(runs, key=lambda run: run.value)
    return f"{method_name(best.method)} reaches {_score(best)}, the best of all runs."


def _against_full(compared: Sequence[tuple[Run, Run]]) -> str:
    """The headline where both the prompt and fine-tuning were run."""
    reached = [f"{percent(run.value / full.value)} on {run.task}" for run, full in compared]
    parameters = _span([_over(run.trained_parameters, full.trained_parameters) for run, full in compared])
    sizes = _span([_over(run.file_bytes, full.file_bytes) for run, full in compared])
    return (
        f"Of fine-tuning's score, {_METHODS[PROMPT]} reaches {_listed(reached)}, "
        f"with {parameters} of the trained parameters and {sizes} of the bytes."
    )


def _score(run: Run) -> str:
    return f"{percent(run.value)} {metric_name(run.metric)} on {run.task}"


def method_name(method: str) -> str:
    """The method as people write it, with what names the variant after it."""
    for name, written in _METHODS.items():
        if method.startswith(name):
            return written + method.removeprefix(name)
    return method


def metric_name(metric: str) -> str:
    """The metric as people write it."""
    return _METRICS.get(metric, metric.replace("_", " ").replace("-", " "))


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{fraction:.1%}"


def share(fraction: float) -> str:
    """A fraction as a percentage, with as many decimals as a small one needs."""
    if fraction >= 0.0995 or fraction == 0:
        return f"{fraction:.0%}"
    decimals = 1 - math.floor(math.log10(fraction * 100))
    return f"{fraction:.{max(decimals, 1)}%}"


def size(count: int) -> str:
    """A number of bytes in the largest unit that leaves at least one of it."""
    if count < 1000:
        return f"{count} B"
    power, unit = next(
        (power, unit) for power, unit in ((3, "kB"), (6, "MB"), (9, "GB")) if count < 999.5 * 10**power or power == 9
    )
    amount = count / 10**power
    return f"{amount:.0f} {unit}" if amount >= 99.95 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time in the one or two units that matter."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}, not a fraction in [0, 1]")


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _span(fractions: Sequence[float]) -> str:
    """One share, or the least and the greatest of several."""
    low, high = share(min(fractions)), share(max(fractions))
    return low if low == high else f"{low} to {high}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _tones(runs: Sequence[Run]) -> dict[str, int]:
    """A colour for each method, the first for the one the page is about."""
    methods = dict.fromkeys(run.method for run in sorted(runs, key=lambda run: not run.is_prompt))
    return {method: index % _TONES for index, method in enumerate(methods)}


def _label_tones(shown: Sequence[Shown]) -> dict[str, int]:
    """A colour for each label, in order of appearance."""
    labels = dict.fromkeys(mark.label for one in shown for mark in one.marks)
    return {label: index % _TONES for index, label in enumerate(labels)}


def _by_task(shown: Sequence[Shown]) -> dict[str, list[Shown]]:
    grouped: dict[str, list[Shown]] = {}
    for one in shown:
        grouped.setdefault(one.task, []).append(one)
    return grouped


@dataclass(frozen=True, slots=True)
class _Axis:
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
class _Dot:
    """One evaluation as drawn."""

    x: float
    y: float
    tip: str


@dataclass(frozen=True, slots=True)
class _Line:
    """One run's curve as drawn."""

    method: str
    tone: int
    is_prompt: bool
    dots: tuple[_Dot, ...]

    @property
    def path(self) -> str:
        """The line in the language of SVG paths."""
        return "M" + "L".join(f"{dot.x:g} {dot.y:g}" for dot in self.dots)


@dataclass(frozen=True, slots=True)
class _Chart:
    """All curves of one contest as drawn, and the same in words."""

    contest: Contest
    across: _Axis
    up: _Axis
    decimals: int
    lines: tuple[_Line, ...]
    description: str


_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 348, 30, 206


def _chart(contest: Contest, tones: Mapping[str, int]) -> _Chart:
    drawn = [run for run in contest.runs if run.curve]
    points = [point for run in drawn for point in run.curve]
    values = [point.value for point in points]
    across = _axis(0, max(point.step for point in points), least=1, start=_LEFT, end=_RIGHT)
    up = _axis(min(values), max(values), least=0.005, start=_BOTTOM, end=_TOP, outward=True)
    lines = [
        _Line(run.method, tones[run.method], run.is_prompt, _dots(run, across, up))
        for run in sorted(drawn, key=lambda run: run.is_prompt)
    ]
    decimals = 0 if all(abs(tick * 100 - round(tick * 100)) < 1e-6 for tick in up.ticks) else 1
    return _Chart(contest, across, up, decimals, tuple(lines), " ".join(map(_in_words, drawn)))


def _axis(low: float, high: float, *, least: float, start: float, end: float, outward: bool = False) -> _Axis:
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
    return _Axis(ticks, low, max(high, low + least), start, end)


def _round_step(step: float) -> float:
    """The next of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= step * (1 - 1e-9))


def _dots(run: Run, across: _Axis, up: _Axis) -> tuple[_Dot, ...]:
    return tuple(
        _Dot(
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


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "method": method_name,
        "metric": metric_name,
        "percent": percent,
        "share": share,
        "size": size,
        "duration": duration,
    }
    environment.globals |= {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _RIGHT,
        "top": _TOP,
        "bottom": _BOTTOM,
    }
    source = files("foreword.studies").joinpath("report.html.j2").read_text("utf-8")
    return environment.from_string(source)


def _write_atomically(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)  # noqa: PTH105 - the one call that is atomic by contract
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise OutputError(f"cannot write the report {path}: {error.strerror}") from error
