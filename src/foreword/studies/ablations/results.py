"""What the runs of an ablation came to: per configuration all seeds, their mean and spread."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foreword.studies.ablations.axes import Axis, Point, Subject
from foreword.studies.cells.cell import CellResult, merged
from foreword.studies.cells.running import Over
from foreword.studies.cells.study import Entrant, Study
from foreword.studies.cells.study_file import selection_apart


@dataclass(frozen=True)
class Plan:
    """How an ablation is run.

    Attributes:
        subject: what is varied.
        axes: how.
        seeds: of the runs of every configuration.
        rates: learning rates that every configuration may choose among, on the data that weights are selected on.
        holdout: share of the training data to select on, so that what the recipe selects on is for tests; 0 leaves
            both as they are.
    """

    subject: Subject
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    rates: tuple[str, ...]
    holdout: float

    @property
    def study(self) -> Study:
        """All of its runs. Configurations that are the same on two axes are run once.

        Raises:
            RecipeError: a configuration is no recipe.
        """
        entrants = [self.entrant(axis, point) for axis in self.axes for point in axis.points]
        for entrant in entrants:
            for cell in entrant.trials() or (entrant.run({}, self.seeds[0]),):
                if cell is not None:
                    cell.checked  # noqa: B018  read for its errors
        return Study(self.subject.checked.name, tuple(entrants), self.seeds, {})

    def entrant(self, axis: Axis, point: Point) -> Entrant:
        """The runs of one configuration."""
        subject = self.subject
        return Entrant(
            data=f"{axis.name} {point.at}",
            method=point.series or axis.name,
            recipe=subject.recipe,
            overrides=merged(
                subject.overrides, selection_apart(subject.recipe, subject.overrides, self.holdout), point.overrides
            ),
            search=tuple((f"training.learning_rate={rate}",) for rate in self.rates),
            trial_seed=self.seeds[0],
        )


@dataclass(frozen=True)
class Measured:
    """One configuration with its runs.

    Attributes:
        point: which.
        values: the main metric by seed, on test data, or where there are none, on those that weights are selected on.
        trained: numbers that were trained.
        chosen: the rate it chose, where there was a choice.
    """

    point: Point
    values: tuple[float, ...]
    trained: int
    chosen: str | None

    @property
    def mean(self) -> float:
        """Of the seeds."""
        return statistics.fmean(self.values)

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds, with n - 1 below; None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Ablation:
    """A finished figure, or as much of it as there is.

    Attributes:
        axis: what was varied.
        recipe: name of the recipe.
        metric: name of the metric.
        side: 'test', or 'holdout' where nothing but that was measured.
        seeds: those that were asked for.
        measured: configurations with at least one run, in the order of the axis.
        missing: how many runs are not there, because they failed or were not run.
    """

    axis: Axis
    recipe: str
    metric: str
    side: str
    seeds: tuple[int, ...]
    measured: Sequence[Measured]
    missing: int

    @property
    def series(self) -> dict[str, list[Measured]]:
        """The lines of the figure."""
        found: dict[str, list[Measured]] = {}
        for one in self.measured:
            found.setdefault(one.point.series, []).append(one)
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything that is drawn, as plain objects."""
        points = [
            {
                "series": one.point.series,
                "at": one.point.at,
                "overrides": list(one.point.overrides),
                "chosen": one.chosen,
                "trained": one.trained,
                "values": list(one.values),
                "mean": one.mean,
                "standard_deviation": one.spread,
            }
            for one in self.measured
        ]
        return {
            "format": "foreword-ablation",
            "axis": self.axis.name,
            "recipe": self.recipe,
            "metric": self.metric,
            "measured_on": self.side,
            "seeds": list(self.seeds),
            "missing": self.missing,
            "points": points,
        }


def collect(plan: Plan, axis: Axis, over: Over) -> Ablation | None:
    """One figure of a plan out of what is over by now; None if nothing of it is."""
    measured: list[Measured] = []
    found: list[CellResult] = []
    for point in axis.points:
        entrant = plan.entrant(axis, point)
        cells = [entrant.run(over, seed) for seed in plan.seeds]
        results = [result for cell in cells if cell is not None and (result := over.get(cell.key)) is not None]
        if results:
            chosen = entrant.chosen(over) if len(plan.rates) > 1 else None
            values = tuple(result.value for result in results)
            rate = None if chosen is None else chosen[0].partition("=")[2]
            measured.append(Measured(point, values, results[0].parameters.trained, rate))
            found += results
    if not found:
        return None
    missing = len(axis.points) * len(plan.seeds) - len(found)
    side = "holdout" if found[0].test is None else "test"
    return Ablation(axis, plan.subject.checked.name, found[0].main, side, plan.seeds, measured, missing)
