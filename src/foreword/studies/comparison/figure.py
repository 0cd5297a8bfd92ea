"""A comparison as a picture: every method's ratio to fine-tuning on every data set."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from foreword.artifacts.folders import write_whole
from foreword.studies.comparison.comparison import Comparison
from foreword.studies.comparison.page import column_tones
from foreword.studies.figures import MARKERS

INK, SOFT, RULE, STRIPE = "#1d2126", "#5a626c", "#e3e1db", "#f7f6f3"
COLOURS = ("#0b5cad", "#b4470b", "#00704f", "#86439f", "#7a5c00", "#545c66", "#a3195b", "#2f7f8f")


def write_figure(path: Path, comparison: Comparison) -> None:
    """Write a PNG: a row per data set, a mark per method, and a stroke as wide as one deviation to both sides.

    Where methods are many, they are the rows and data sets the marks.

    Raises:
        OutputError: the file cannot be written.
    """
    drawn = [line for line in comparison.lines if any(_ratio(comparison, line, one) for one in comparison.columns)]
    figure = Figure(figsize=(8, 1.6 + 0.5 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    tones = column_tones(comparison)
    for number, (column, tone) in enumerate(tones.items()):
        beside = 0.5 * (number / max(len(tones) - 1, 1) - 0.5)  # so that equal scores do not hide one another
        rows = [(place + beside, _ratio(comparison, line, column)) for place, line in enumerate(drawn)]
        found = [(place, *ratio) for place, ratio in rows if ratio is not None]
        axes.errorbar(
            [ratio for _, ratio, _ in found],
            [place for place, _, _ in found],
            xerr=[deviation for _, _, deviation in found],
            fmt=MARKERS[tone],
            color=COLOURS[tone],
            markersize=7,
            markeredgecolor="white",
            elinewidth=1.2,
            label=comparison.label(column),
            zorder=3 if column == comparison.prompt else 2,
        )
    axes.axvline(1, color=SOFT, linewidth=1, zorder=1)
    axes.set_yticks(range(len(drawn)), [comparison.label(line) for line in drawn], color=INK)
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.set_xlabel("score by that of fine-tuning", color=SOFT)
    axes.tick_params(colors=SOFT, length=0)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(axis="x", color=RULE, zorder=0)
    for place in range(len(drawn)):
        axes.axhspan(place - 0.4, place + 0.4, color=STRIPE, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    write_whole(path, picture.getvalue())


def _ratio(comparison: Comparison, line: str, column: str) -> tuple[float, float] | None:
    """Score by that of fine-tuning at one place, and its deviation by the same; None where there is none."""
    entry = comparison.at(line, column)
    ratio = comparison.ratio(entry)
    if entry is None or not ratio or not entry.mean:
        return None
    return ratio, ratio * (entry.deviation or 0) / entry.mean
