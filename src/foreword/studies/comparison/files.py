"""A comparison as files beside its cells."""

from __future__ import annotations

from pathlib import Path

from foreword.artifacts.folders import write_whole
from foreword.studies.comparison.comparison import Comparison
from foreword.studies.comparison.figure import write_figure
from foreword.studies.comparison.page import write_comparison
from foreword.studies.comparison.text import comparison_text

TEXT, PAGE, FIGURE = "comparison.md", "comparison.html", "ratios.png"


def write_files(folder: Path, comparison: Comparison) -> list[Path]:
    """Write Markdown, page and, where fine-tuning is among the methods, picture; what was there is replaced.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_whole(folder / TEXT, comparison_text(comparison).encode())
    write_comparison(folder / PAGE, comparison)
    written = [folder / TEXT, folder / PAGE]
    if comparison.summaries():
        write_figure(folder / FIGURE, comparison)
        written.append(folder / FIGURE)
    return written
