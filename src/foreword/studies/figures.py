"""How figures of studies look: sizes, colours, and where they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ACCENT, GREY = "#b3401f", "#8a8f98"
TONES = ("#b3401f", "#2b5f8a", "#3f7d4e", "#8a5fa3", "#b8860b", "#5c6470")
"""Of lines beside one another; told apart by their markers too."""
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">")
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": "#444a52",
    "ytick.color": "#444a52",
    "legend.frameon": False,
}


@contextmanager
def picture(path: Path, down: int, across: int, *, width: float = 3.4, height: float = 2.5) -> Iterator[list[Axes]]:
    """Empty panels, row by row, that are written to a PNG file when the block ends.

    Args:
        path: the file.
        down, across: how many panels.
        width, height: of one, in inches.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(width * across, height * down), layout="constrained")
        yield list(figure.subplots(down, across, squeeze=False).flat)
        figure.savefig(path, format="png", dpi=150)


def plain(axes: Axes) -> None:
    """Faint lines across, behind what is drawn."""
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.6)
    axes.set_axisbelow(True)
