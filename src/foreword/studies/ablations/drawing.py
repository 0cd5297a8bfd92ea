"""An ablation as a figure: a line per series where the axis has a scale, and a column of dots per choice where not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from foreword.studies.ablations.results import Ablation, Measured
from foreword.studies.figures import ACCENT, GREY, MARKERS, TONES, picture, plain
from foreword.studies.wording import metric_name


def draw_ablation(path: Path, ablation: Ablation) -> None:
    """Write the figure: means over seeds, standard deviations as bars, and every run as a small dot."""
    with picture(path, 1, 1, width=5.2, height=3.6) as (axes,):
        scaled = all(one.point.place is not None for one in ablation.measured)
        if scaled:
            _draw_lines(axes, ablation)
        else:
            _draw_columns(axes, ablation.measured)
        axes.set_xlabel(ablation.axis.label)
        axes.set_ylabel(f"{metric_name(ablation.metric)}, % ({ablation.side})")
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.set_title(_title(ablation), loc="left", color="#444a52")
        plain(axes)


def _draw_lines(axes: Axes, ablation: Ablation) -> None:
    for number, (series, line) in enumerate(ablation.series.items()):
        tone, marker = TONES[number % len(TONES)], MARKERS[number % len(MARKERS)]
        places = [one.point.place or 0.0 for one in line]
        means = [one.mean for one in line]
        spreads = [one.spread or 0.0 for one in line]
        axes.errorbar(
            places,
            means,
            yerr=spreads,
            color=tone,
            marker=marker,
            markersize=5,
            linewidth=1.4,
            capsize=2.5,
            label=series,
        )
        for one in line:
            if len(one.values) > 1:
                axes.scatter([one.point.place or 0.0] * len(one.values), one.values, color=tone, s=7, alpha=0.45)
    if ablation.axis.logarithmic:
        axes.set_xscale("log", base=2)
    ticks = {one.point.place or 0.0: one.point.at for one in ablation.measured}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    if any(ablation.series):
        axes.legend()


def _draw_columns(axes: Axes, measured: Sequence[Measured]) -> None:
    for place, one in enumerate(measured):
        axes.scatter([place] * len(one.values), one.values, color=GREY, s=14, zorder=2)
        axes.hlines(one.mean, place - 0.18, place + 0.18, color=ACCENT, linewidth=2, zorder=3)
        axes.annotate(f"{one.mean:.1%}", (place + 0.2, one.mean), color=ACCENT, fontsize=8, verticalalignment="center")
    axes.set_xticks(range(len(measured)), [one.point.at for one in measured])
    axes.set_xlim(-0.6, len(measured) - 0.2)


def _title(ablation: Ablation) -> str:
    seeds = len(ablation.seeds)
    return f"{ablation.recipe}, {seeds} seeds" if seeds > 1 else f"{ablation.recipe}, one seed"
