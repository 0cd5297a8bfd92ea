"""Trials as a picture: how the search went on, and the value over every setting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from foreword.recipes.search import Range, Values
from foreword.recipes.templates.settings import toml_value
from foreword.studies.figures import ACCENT, GREY, picture, plain
from foreword.studies.tuning.trials import Trial, best_of

ACROSS = 3


def draw_trials(
    path: Path, trials: Sequence[Trial], settings: Mapping[str, Values], importances: Mapping[str, float]
) -> None:
    """Write the picture: dots are finished trials, rings those given up, and the line is the recipe as it stands.

    Args:
        path: a PNG file.
        trials: those that are over.
        settings: path -> what was searched.
        importances: path -> share of the differences, written behind its name; may be empty.
    """
    ordered = sorted(settings, key=lambda one: -importances.get(one, 0.0))
    with picture(path, math.ceil((1 + len(settings)) / ACROSS), ACROSS) as panels:
        used, unused = panels[: 1 + len(settings)], panels[1 + len(settings) :]
        _draw_course(used[0], trials)
        for axes, one in zip(used[1:], ordered, strict=True):
            share = f" ({importances[one]:.0%})" if one in importances else ""
            _draw_setting(axes, trials, one, settings[one])
            axes.set_title(one.partition(".")[2] + share)
        _keep_in_view(used, trials)
        for axes in unused:
            axes.set_axis_off()


def _draw_course(axes: Axes, trials: Sequence[Trial]) -> None:
    finished = [(one.number, one.value) for one in trials if one.end == "finished" and one.value is not None]
    _dots(axes, trials, {one.number: float(one.number) for one in trials})
    bests = list(accumulate((value for _, value in finished), max))
    axes.step([number for number, _ in finished], bests, where="post", color=ACCENT, linewidth=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("best so far, by trial")
    axes.set_ylabel(trials[0].metric)
    plain(axes)


def _draw_setting(axes: Axes, trials: Sequence[Trial], path: str, values: Values) -> None:
    known = {one.number: one.settings[path] for one in trials if path in one.settings}
    if isinstance(values, Range):
        places = {number: float(value) for number, value in known.items()}
        _scale(axes, values)
    else:
        texts = [toml_value(value) for value in values]
        places = {number: texts.index(toml_value(value)) + _aside(number) for number, value in known.items()}
        axes.set_xticks(range(len(texts)), [text.strip('"') for text in texts])
        axes.set_xlim(-0.5, len(texts) - 0.5)
    _dots(axes, trials, places)
    plain(axes)


def _scale(axes: Axes, values: Range) -> None:
    """The whole range, with a little room, and ticks at 1 and 3 times powers of ten where it is logarithmic."""
    low, high = float(values.low), float(values.high)
    if not values.log:
        room = 0.03 * (high - low)
        axes.set_xlim(low - room, high + room)
        return
    room = (high / low) ** 0.03
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [times * 10.0**power for power in powers for times in (1, 3)]
    ticks = [tick for tick in ticks if low / room <= tick <= high * room]
    axes.set_xticks(ticks, [f"{tick:g}" if tick >= 1e-3 else f"{tick:.0e}".replace("e-0", "e-") for tick in ticks])
    axes.minorticks_off()


def _aside(number: int) -> float:
    """Trials of one choice and one value are drawn beside one another."""
    return 0.05 * (number % 7 - 3)


def _dots(axes: Axes, trials: Sequence[Trial], places: Mapping[int, float]) -> None:
    """Finished trials as dots, those given up as rings, the best in colour."""
    best = best_of(trials)
    for one in trials:
        if one.number in places and one.value is not None:
            full = one.end == "finished"
            colour: Any = ACCENT if best is not None and one.number == best.number else GREY
            style = {"color": colour, "facecolor": colour if full else "none", "zorder": 3 if colour == ACCENT else 2}
            axes.scatter(places[one.number], one.value, s=22, linewidths=0.8, **style)


def _keep_in_view(panels: Sequence[Axes], trials: Sequence[Trial]) -> None:
    """One scale of values for all panels."""
    values = [one.value for one in trials if one.value is not None]
    room = 0.05 * (max(values) - min(values)) or 0.01
    for axes in panels:
        axes.set_ylim(min(values) - room, max(values) + room)
        if trials[0].value is not None:
            axes.axhline(trials[0].value, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
