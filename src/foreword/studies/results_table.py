"""The results of a study as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from foreword.studies.report import (
    Contest,
    Run,
    contests,
    duration,
    method_name,
    metric_name,
    percent,
    share,
    size,
)


def write_table(runs: Sequence[Run]) -> Table:
    """Score and cost of each method on each task; fits 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("Method", overflow="fold")
    for heading in ("Score", "Of full", "Trained", "Share", "File", "Time"):
        table.add_column(heading, justify="right", no_wrap=True)
    for contest in contests(runs):
        table.add_row(_heading(contest))
        for run in contest.runs:
            table.add_row(*_cells(contest, run), style="bold" if run.is_prompt else None)
        table.add_section()
    return table


def _heading(contest: Contest) -> Text:
    measured = f"\n{contest.data}, {metric_name(contest.metric)}"
    return Text.assemble((contest.task, "bold"), (measured, "dim"))


def _cells(contest: Contest, run: Run) -> list[Text]:
    reached = contest.of_full(run)
    cells = (
        f"  {method_name(run.method)}",
        percent(run.value),
        "–" if reached is None else percent(reached),
        f"{run.trained_parameters:,}",
        share(run.backbone_share),
        size(run.file_bytes),
        duration(run.seconds),
    )
    return [Text(cell) for cell in cells]
