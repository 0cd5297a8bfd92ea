"""A comparison as a picture: every method's ratio to fine-tuning on every data set."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from foreword.artifacts.folders import write_whole
from foreword.studies.comparison.comparison import Comparison
from foreword.studies.comparison.page import method_tones

INK, SOFT, RULE, STRIPE = "#1d2126", "#5a626c", "#e3e1db", "#f7f6f3"
COLOURS = ("#0b5cad", "#b4470b", "#00704f", "#86439f", "#7a5c00", "#545c66")
MARKERS = ("o", "s", "^", "D", "v", "P")


def write_figure(path: Path, comparison: Comparison) -> None:
    """Write a PNG: a row per data set, a mark per method, and a stroke as wide as one deviation to both sides.

    Raises:
        OutputError: the file cannot be written.
    """
    drawn = [data for data in comparison.data if any(map(comparison.ratio, comparison.row(data).values()))]
    figure = Figure(figsize=(8, 1.6 + 0.5 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    tones = method_tones(comparison)
    for number, (method, tone) in enumerate(tones.items()):
        beside = 0.5 * (number / max(len(tones) - 1, 1) - 0.5)  # so that equal scores do not hide one another
        rows = [(place + beside, comparison.row(data).get(method)) for place, data in enumerate(drawn)]
        found = [(place, entry, ratio) for place, entry in rows if entry and (ratio := comparison.ratio(entry))]
        axes.errorbar(
            [ratio for _, _, ratio in found],
            [place for place, _, _ in found],
            xerr=[ratio * (entry.deviation or 0) / entry.mean if entry.mean else 0 for _, entry, ratio in found],
            fmt=MARKERS[tone],
            color=COLOURS[tone],
            markersize=7,
            markeredgecolor="white",
            elinewidth=1.2,
            label=comparison.label(method),
            zorder=3 if method == comparison.prompt else 2,
        )
    axes.axvline(1, color=SOFT, linewidth=1, zorder=1)
    axes.set_yticks(range(len(drawn)), drawn, color=INK)
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
