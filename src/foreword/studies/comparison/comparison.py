"""The finished cells of a study as one table of data sets and methods, seeds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from foreword.studies.cells.cell import CellRecord, CellResult
from foreword.studies.cells.store import Store
from foreword.studies.cells.study import Entrant, Study
from foreword.studies.wording import FULL, PROMPT, method_name

MOST_ACROSS = 10
"""Methods beside one another that can still be read; more of them stand below one another."""


@dataclass(frozen=True)
class Entry:
    """One method on one data set, over its seeds.

    Attributes:
        data, method: of whose finished runs this is.
        settings: what the search chose, as overrides; None while that is open.
        results: of the seeds that are finished, in the order of the seeds.
        seeds: how many there are to be.
        errors: of the cells that failed, trials included.
    """

    data: str
    method: str
    settings: tuple[str, ...] | None
    results: tuple[CellResult, ...]
    seeds: int
    errors: tuple[str, ...]

    @property
    def values(self) -> list[float]:
        """The main metric of each seed, on test data where there are some."""
        return [result.value for result in self.results]

    @property
    def mean(self) -> float | None:
        """Over the seeds that are finished; None where none is."""
        return fmean(self.values) if self.results else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds, with n - 1; None for fewer than two."""
        return stdev(self.values) if len(self.results) > 1 else None

    @property
    def metric(self) -> str | None:
        """Name of the main metric."""
        return self.results[0].main if self.results else None

    @property
    def tested(self) -> bool:
        """Whether the values are of data that nothing was selected on."""
        return all(result.test is not None for result in self.results)

    @property
    def trained(self) -> int:
        """Trained parameters."""
        return self.results[0].parameters.trained

    @property
    def share(self) -> float:
        """Trained parameters per parameter of the backbone."""
        return self.trained / self.results[0].parameters.backbone

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        return self.results[0].bytes

    @property
    def seconds(self) -> float:
        """Mean training time of a seed."""
        return fmean(result.seconds for result in self.results)

    @property
    def seconds_per_step(self) -> float:
        """Mean time of an optimizer step."""
        return fmean(result.seconds_per_step for result in self.results)

    @property
    def peak_memory(self) -> int:
        """Most bytes that training added in any seed; 0 where it was not measured."""
        return max(result.peak_memory for result in self.results)


@dataclass(frozen=True)
class Summary:
    """A method over all data sets on which both it and the baseline are finished.

    Attributes:
        method: which.
        ratios: data set -> mean score by that of the baseline.
    """

    method: str
    ratios: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Mean ratio."""
        return fmean(self.ratios.values())

    @property
    def worst(self) -> tuple[str, float]:
        """The data set with the smallest ratio, and that ratio."""
        return min(self.ratios.items(), key=lambda item: item[1])


@dataclass(frozen=True)
class Comparison:
    """A study's results.

    Attributes:
        name: of the study.
        entries: every method on every data set, data set by data set.
        labels: method -> what people call it, where that is not its name.
        baseline: the method that is fine-tuning, which others are measured by; None where there is none.
        prompt: the method that is P-Tuning v2, for comparison with papers; None where there is none.
        seeds: of the runs.
        cells: how many are over, of how many.
    """

    name: str
    entries: tuple[Entry, ...]
    labels: Mapping[str, str]
    baseline: str | None
    prompt: str | None
    seeds: tuple[int, ...]
    cells: tuple[int, int]

    @property
    def data(self) -> list[str]:
        """The data sets, in their order."""
        return list(dict.fromkeys(entry.data for entry in self.entries))

    @property
    def methods(self) -> list[str]:
        """The methods, in their order."""
        return list(dict.fromkeys(entry.method for entry in self.entries))

    @property
    def methods_down(self) -> bool:
        """Whether methods are shown below one another and data sets across: where there are many methods."""
        return len(self.methods) > MOST_ACROSS

    @property
    def lines(self) -> list[str]:
        """What is shown below one another."""
        return self.methods if self.methods_down else self.data

    @property
    def columns(self) -> list[str]:
        """What is shown across."""
        return self.data if self.methods_down else self.methods

    def at(self, line: str, column: str) -> Entry | None:
        """What is shown at one place."""
        data, method = (column, line) if self.methods_down else (line, column)
        return self.row(data).get(method)

    def label(self, name: str) -> str:
        """A method as people call it; a data set goes by its own name."""
        return name if name in self.data else self.labels.get(name) or method_name(name)

    def row(self, data: str) -> dict[str, Entry]:
        """Method -> its entry on a data set."""
        return {entry.method: entry for entry in self.entries if entry.data == data}

    def metric(self, data: str) -> str | None:
        """Name of a data set's main metric; None while nothing of it is finished."""
        return next((entry.metric for entry in self.row(data).values() if entry.metric is not None), None)

    def is_best(self, entry: Entry) -> bool:
        """Whether no other mean on its data is higher."""
        means = [other.mean for other in self.row(entry.data).values() if other.mean is not None]
        return entry.mean is not None and entry.mean == max(means)

    def ratio(self, entry: Entry | None) -> float | None:
        """Its mean by that of the baseline on the same data; None where one is missing, or that is not positive."""
        if entry is None or entry.mean is None or self.baseline is None:
            return None
        base = self.row(entry.data).get(self.baseline)
        if base is None or base.mean is None or base.mean <= 0:
            return None
        return entry.mean / base.mean

    def summaries(self) -> list[Summary]:
        """Every method that can be measured by the baseline anywhere."""
        found = []
        for method in self.methods:
            ratios = {
                entry.data: ratio
                for entry in self.entries
                if entry.method == method and (ratio := self.ratio(entry)) is not None
            }
            if ratios:
                found.append(Summary(method, ratios))
        return found


def compare(study: Study, store: Store) -> Comparison:
    """What is known of a study.

    Raises:
        ForewordError: a file in the folder is not that of a finished cell.
    """
    records = store.records()
    entries = tuple(_entry(entrant, study.seeds, records) for entrant in study.entrants)
    kinds = {one.first.checked.method.name: one.method for one in reversed(study.entrants)}
    over = {key: record.result for key, record in records.items()}
    done = sum(cell.key in over for cell in study.cells(over))
    return Comparison(
        study.name, entries, study.labels, kinds.get(FULL), kinds.get(PROMPT), study.seeds, (done, study.size)
    )


def _entry(entrant: Entrant, seeds: Sequence[int], records: Mapping[str, CellRecord]) -> Entry:
    over = {key: record.result for key, record in records.items()}
    runs = [cell for seed in seeds if (cell := entrant.run(over, seed)) is not None]
    found = [records[cell.key] for cell in (*entrant.trials(), *runs) if cell.key in records]
    return Entry(
        entrant.data,
        entrant.method,
        entrant.chosen(over),
        tuple(result for cell in runs if (result := over.get(cell.key)) is not None),
        len(seeds),
        tuple(f"{record.tags['cell']}: {record.error}" for record in found if record.error is not None),
    )
