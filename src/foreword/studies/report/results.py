"""Results of a study: what each method reached on each task, and at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from foreword.studies.wording import FULL, METHOD_NAMES, PROMPT, listed, method_name, metric_name, percent, span


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
        scores = listed([_score(run) for run, _ in prompted])
        shares = span([run.backbone_share for run, _ in prompted])
        return f"{METHOD_NAMES[PROMPT]} reaches {scores}, training {shares} of the backbone's size."
    best = max(runs, key=lambda run: run.value)
    return f"{method_name(best.method)} reaches {_score(best)}, the best of all runs."


def _against_full(compared: Sequence[tuple[Run, Run]]) -> str:
    """The headline where both the prompt and fine-tuning were run."""
    reached = [f"{percent(run.value / full.value)} on {run.task}" for run, full in compared]
    parameters = span([_over(run.trained_parameters, full.trained_parameters) for run, full in compared])
    sizes = span([_over(run.file_bytes, full.file_bytes) for run, full in compared])
    return (
        f"Of fine-tuning's score, {METHOD_NAMES[PROMPT]} reaches {listed(reached)}, "
        f"with {parameters} of the trained parameters and {sizes} of the bytes."
    )


def _score(run: Run) -> str:
    return f"{percent(run.value)} {metric_name(run.metric)} on {run.task}"


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _check_fraction(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name} is {value}, not a fraction in [0, 1]")
