"""A study: methods, data sets and seeds, and from them the cells to run.

Every method gets the same: the same data, the same number of trials of its settings, the same seeds. Trials and
checkpoints are selected on a part of the training data that is put aside; what the recipes select on becomes the
test data, which is reported and never selected on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from foreword.errors import RecipeError
from foreword.studies.cells.cell import Cell, merged
from foreword.studies.cells.running import Over

Overrides = tuple[str, ...]


@dataclass(frozen=True)
class Entrant:
    """One method on one data set.

    Attributes:
        data, method: row and column of the table.
        recipe: a file, or the name of a packaged recipe.
        overrides: changes to it, for all of its cells.
        search: what is tried, as further changes; the best is run on.
        trial: changes for the trials alone, such as fewer epochs.
        trial_seed: of the trials.
    """

    data: str
    method: str
    recipe: str
    overrides: Overrides = ()
    search: tuple[Overrides, ...] = ()
    trial: Overrides = ()
    trial_seed: int = 11

    def trials(self) -> tuple[Cell, ...]:
        """What is run to choose among ``search``, in its order; nothing where there is no choice."""
        return _trials(self)

    @property
    def first(self) -> Cell:
        """A cell that is known from the start."""
        return self.trials()[0] if self.trials() else _run(self, self.search[0] if self.search else (), 0)

    def chosen(self, over: Over) -> Overrides | None:
        """The changes that did best in the trials; None while some are not over, or if all failed."""
        trials = self.trials()
        if not trials:
            return self.search[0] if self.search else ()
        if any(cell.key not in over for cell in trials):
            return None
        scored = [
            (result.selected_by, -number, chosen)
            for number, (cell, chosen) in enumerate(zip(trials, self.search, strict=True))
            if (result := over[cell.key]) is not None
        ]
        return max(scored)[2] if scored else None

    def run(self, over: Over, seed: int) -> Cell | None:
        """The cell of one seed; None while it is not known which settings to run."""
        chosen = self.chosen(over)
        return None if chosen is None else _run(self, chosen, seed)


@cache
def _trials(entrant: Entrant) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            entrant.recipe,
            merged(entrant.overrides, chosen, entrant.trial, [f"training.seed={entrant.trial_seed}"]),
            {"data": entrant.data, "method": entrant.method, "cell": f"trial {number}"},
            score_test=not entrant.trial,  # one without changes of its own may be the run of a seed as well
        )
        for number, chosen in enumerate(entrant.search if len(entrant.search) > 1 else (), start=1)
    )


@cache
def _run(entrant: Entrant, chosen: Overrides, seed: int) -> Cell:
    return Cell(
        entrant.recipe,
        merged(entrant.overrides, chosen, [f"training.seed={seed}"]),
        {"data": entrant.data, "method": entrant.method, "cell": f"seed {seed}"},
    )


@dataclass(frozen=True)
class Study:
    """Everything that is to be compared.

    Attributes:
        name: of the study.
        entrants: every method on every data set, data set by data set.
        seeds: of the runs that are reported.
        labels: method -> what people call it, where that is not its name.
    """

    name: str
    entrants: tuple[Entrant, ...]
    seeds: tuple[int, ...]
    labels: Mapping[str, str]

    @property
    def data(self) -> list[str]:
        """The rows of the table."""
        return list(dict.fromkeys(entrant.data for entrant in self.entrants))

    @property
    def methods(self) -> list[str]:
        """The columns of the table."""
        return list(dict.fromkeys(entrant.method for entrant in self.entrants))

    def only(
        self,
        *,
        data: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Study:
        """A part of the study; None leaves all. Seeds may be others than those of the study.

        Raises:
            RecipeError: some of what is asked for is not in it.
        """
        asked = {"data": (data, self.data), "method": (methods, self.methods)}
        mistakes = [
            f"no {what} '{name}' in the study; there are: {', '.join(there)}"
            for what, (names, there) in asked.items()
            for name in names or ()
            if name not in there
        ]
        if mistakes:
            raise RecipeError(mistakes)
        entrants = tuple(
            one
            for one in self.entrants
            if (data is None or one.data in data) and (methods is None or one.method in methods)
        )
        return replace(self, entrants=entrants, seeds=self.seeds if seeds is None else tuple(seeds))

    def cells(self, over: Over) -> list[Cell]:
        """Trials and first seeds of all entrants, then the second seeds, and so on: half a study can be read."""
        return list(self._cells(over))

    def _cells(self, over: Over) -> Iterator[Cell]:
        for round_, seed in enumerate(self.seeds):
            for entrant in self.entrants:
                if round_ == 0:
                    yield from entrant.trials()
                cell = entrant.run(over, seed)
                if cell is not None:
                    yield cell

    @property
    def size(self) -> int:
        """How many cells there are in all, if every search can be decided; one that serves twice counts twice."""
        return sum(len(entrant.trials()) + len(self.seeds) for entrant in self.entrants)
