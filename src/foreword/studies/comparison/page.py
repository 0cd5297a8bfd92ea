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
    """The ratios on one data set as drawn, and the same in words."""

    data: str
    dots: tuple[Mark, ...]
    description: str


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the page, at once or not at all; what was there is replaced.

    Raises:
        OutputError: the file cannot be written.
    """
    tones = method_tones(comparison)
    ratios = [ratio for entry in comparison.entries if (ratio := comparison.ratio(entry)) is not None]
    across = axis(min([*ratios, 1]), max([*ratios, 1]), least=0.005, start=0, end=100, outward=True)
    lanes = [_lane(comparison, data, across, tones) for data in comparison.data] if ratios else []
    papers, done = list(tables.paper_rows(comparison)), [entry for entry in comparison.entries if entry.results]
    write_page(
        path,
        "comparison/comparison.html.j2",
        title=comparison.name,
        intro=f"{len(comparison.methods)} methods on {len(comparison.data)} data sets, with the same data, the same "
        "number of trials and the same seeds for each.",
        headline=tables.headline(comparison),
        note=tables.introduction(comparison),
        methods=[comparison.label(method) for method in comparison.methods],
        scores=tables.score_rows(comparison),
        lanes=[lane for lane in lanes if lane.dots],
        across=across,
        legend={comparison.label(method): tone for method, tone in tones.items()},
        summary=list(tables.summary_rows(comparison)),
        costs=list(tables.cost_rows(comparison)),
        cost_note=tables.COST_NOTE,
        papers=papers if len(papers) > 1 else [],
        papers_note=tables.PAPERS_NOTE,
        sources=tables.sources(comparison),
        failures=tables.failures(comparison),
        facts=_facts(comparison) if done else {},
    )


def method_tones(comparison: Comparison) -> dict[str, int]:
    """A colour for each method, the first for P-Tuning v2."""
    ordered = sorted(comparison.methods, key=lambda method: method != comparison.prompt)
    return {method: ordered.index(method) % TONES for method in comparison.methods}


def _lane(comparison: Comparison, data: str, across: Axis, tones: dict[str, int]) -> Lane:
    dots = []
    for method, entry in comparison.row(data).items():
        ratio = comparison.ratio(entry)
        if ratio is not None and entry.mean is not None:
            tip = f"{comparison.label(method)}: {spread(entry.mean, entry.deviation)}, {ratio:.3f} of fine-tuning"
            dots.append(Mark(across.place(ratio), tones[method], tip))
    return Lane(data, tuple(dots), "; ".join(dot.tip for dot in dots))


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
