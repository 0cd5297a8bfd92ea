"""The results of a study as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from foreword.studies.report.results import Contest, Run, contests
from foreword.studies.wording import duration, method_name, metric_name, percent, share, size

_COLUMNS = {"Method": 16, "Score": 6, "Of full": 7, "Trained": 11, "Share": 6, "File": 7, "Time": 10}
"""Headings and widths; with two blanks between columns they fill 75 characters."""


def write_table(runs: Sequence[Run]) -> Table:
    """Score and cost of each method on each task; fits 80 columns."""
    page = Table.grid()
    page.add_column(overflow="fold")
    for contest in contests(runs):
        page.add_row(_heading(contest))
        page.add_row(_results(contest))
        page.add_row()
    return page


def _heading(contest: Contest) -> Text:
    return Text.assemble((contest.task, "bold"), (f", {contest.data}, {metric_name(contest.metric)}", "not bold dim"))


def _results(contest: Contest) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading, width in _COLUMNS.items():
        first = heading == "Method"
        table.add_column(
            heading,
            min_width=width,
            max_width=width if first else None,
            justify="left" if first else "right",
            no_wrap=not first,
            overflow="fold",
        )
    for run in contest.runs:
        table.add_row(*_cells(contest, run), style="bold" if run.is_prompt else None)
    return table


def _cells(contest: Contest, run: Run) -> list[Text]:
    reached = contest.of_full(run)
    cells = (
        method_name(run.method),
        percent(run.value),
        "-" if reached is None else percent(reached),
        f"{run.trained_parameters:,}",
        share(run.backbone_share),
        size(run.file_bytes),
        duration(run.seconds),
    )
    return [Text(cell) for cell in cells]
