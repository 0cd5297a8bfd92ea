"""A comparison as one HTML page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foreword.studies.cells.cell import CellResult
from foreword.studies.comparison import tables
from foreword.studies.comparison.comparison import Comparison
from foreword.studies.page import TONES, write_page
from foreword.studies.report.charts import Axis, axis
from foreword.studies.wording import spread


@dataclass(frozen=True, slots=True)
class Mark:
    """One method on one data set as drawn."""

    place: float
    tone: int
    tip: str


@dataclass(frozen=True, slots=True)
class Lane:
    """The ratios on one data set as drawn, or those of one method, and the same in words."""

    name: str
    dots: tuple[Mark, ...]
    description: str


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the page, at once or not at all; what was there is replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    tones = column_tones(comparison)
    ratios = [ratio for entry in comparison.entries if (ratio := comparison.ratio(entry)) is not None]
    across = axis(min([*ratios, 1]), max([*ratios, 1]), least=0.005, start=0, end=100, outward=True)
    lanes = [_lane(comparison, line, across, tones) for line in comparison.lines] if ratios else []
    papers, done = list(tables.paper_rows(comparison)), [entry for entry in comparison.entries if entry.results]
    write_page(
        path,
        "comparison/comparison.html.j2",
        title=comparison.name,
        intro=f"{len(comparison.methods)} methods on {len(comparison.data)} data sets, with the same data, the same "
        "number of trials and the same seeds for each.",
        headline=tables.headline(comparison),
        note=tables.introduction(comparison),
        scores=tables.score_table(comparison),
        lanes=[lane for lane in lanes if lane.dots],
        across=across,
        legend={comparison.label(column): tone for column, tone in tones.items()},
        summary=list(tables.summary_rows(comparison)),
        costs=list(tables.cost_rows(comparison)),
        cost_note=tables.COST_NOTE,
        papers=papers if len(papers) > 1 else [],
        papers_note=tables.PAPERS_NOTE,
        sources=tables.sources(comparison),
        failures=tables.failures(comparison),
        facts=_facts(comparison) if done else {},
    )


def column_tones(comparison: Comparison) -> dict[str, int]:
    """A colour for each method, the first for P-Tuning v2; or for each data set, where those are the columns."""
    ordered = sorted(comparison.columns, key=lambda column: column != comparison.prompt)
    return {column: ordered.index(column) % TONES for column in comparison.columns}


def _lane(comparison: Comparison, line: str, across: Axis, tones: dict[str, int]) -> Lane:
    dots = []
    for column, tone in tones.items():
        entry = comparison.at(line, column)
        ratio = comparison.ratio(entry)
        if entry is not None and entry.mean is not None and ratio is not None:
            tip = f"{comparison.label(column)}: {spread(entry.mean, entry.deviation)}, {ratio:.3f} of fine-tuning"
            dots.append(Mark(across.place(ratio), tone, tip))
    return Lane(comparison.label(line), tuple(dots), "; ".join(dot.tip for dot in dots))


def _facts(comparison: Comparison) -> dict[str, str]:
    """What else to know, from the cells themselves."""
    results = [result for entry in comparison.entries for result in entry.results]
    sizes = {result.parameters.backbone for result in results}
    names = {result.recipe["backbone"]["name"] for result in results}
    versions = {tuple(result.versions.items()) for result in results}
    return {
        "Backbone": "; ".join(sorted(names)) + f" ({', '.join(f'{size:,}' for size in sorted(sizes))} parameters)",
        "Seeds": ", ".join(map(str, comparison.seeds)),
        "Cells": "{} of {} finished".format(*comparison.cells),
        "Computed on": ", ".join(sorted({_where(result) for result in results})),
        "Versions": "; ".join(", ".join(f"{name} {version}" for name, version in one) for one in sorted(versions)),
    }


def _where(result: CellResult) -> str:
    beside = f", {result.side_by_side} side by side" if result.side_by_side > 1 else ""
    return f"{result.device}, {result.threads} threads{beside}"
