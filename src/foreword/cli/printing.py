"""What the commands share for printing: tables, sizes, examples under `--help`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

WIDE = 1000
"""Columns assumed where nobody looks: in a pipe or a file no line is wrapped."""


def examples(*commands: str) -> str:
    """The text under a command's options."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"[cyan]{command}[/cyan]" for command in commands)])


def print_table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Print aligned columns on stdout, with a header if there is one."""
    table = Table(*header, show_header=bool(header), box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else WIDE, markup=False, highlight=False, emoji=False)
    console.print(table)


def score_rows(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """Metrics and their values as rows of a table."""
    return [(name, f"{value:.4f}") for name, value in values.items()]


def warn(message: str) -> None:
    """Say on stderr what the user should know."""
    typer.echo(f"warning: {message}", err=True)


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def share_words(part: int, whole: int) -> str:
    """A number of parameters, and how much of the backbone's it is."""
    return f"{part:,} ({part / whole:.2%} of the backbone's {whole:,})"
