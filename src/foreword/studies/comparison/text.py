"""A comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from foreword.studies.comparison import tables
from foreword.studies.comparison.comparison import Comparison


def comparison_text(comparison: Comparison) -> str:
    """The whole comparison: scores, ratios, costs, what papers report, and what failed."""
    parts = [f"# {comparison.name}", tables.introduction(comparison), markdown_table(_scores(comparison))]
    if comparison.summaries():
        parts += ["## Against fine-tuning", markdown_table(tables.summary_rows(comparison))]
    costs, papers = list(tables.cost_rows(comparison)), list(tables.paper_rows(comparison))
    if len(costs) > 1:
        parts += ["## What it costs", tables.COST_NOTE, markdown_table(costs)]
    if len(papers) > 1:
        note = f"{tables.PAPERS_NOTE} {tables.sources(comparison)}"
        parts += ["## What papers report", note, markdown_table(papers)]
    if failed := tables.failures(comparison):
        parts += ["## What failed", "\n".join(f"- {' '.join(one.split())}" for one in failed)]
    return "\n\n".join(parts) + "\n"


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """A table whose first row is the header."""
    header, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *body))


def _scores(comparison: Comparison) -> Iterator[Sequence[str]]:
    table = tables.score_table(comparison)
    yield (*table.corner, *table.columns)
    for row in table.rows:
        yield (*row.heads, *map(_cell, row.cells))


def _cell(cell: tables.ScoreCell) -> str:
    words = f"**{cell.words}**" if cell.best else cell.words
    return f"{words} ({cell.ratio})" if cell.ratio else words
