"""`foreword quickstart`: the whole of Foreword in a few minutes."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from foreword.cli.printing import examples

EXAMPLES = examples("foreword quickstart", "foreword quickstart --output /tmp/demo")


def quickstart(
    output: Annotated[Path, typer.Option(help="Folder for data, artifacts and the report.")] = Path(
        "foreword-quickstart"
    ),
) -> None:
    """Train three tasks on one frozen model, compare, and write a report.

    Example data is made up on the spot. Prompts are tuned for classification, named entities and question
    answering beside fine-tuning and a head-only probe; then one forward pass answers a batch of all three.
    """
    from rich.console import Console

    from foreword.studies.report.quickstart import run_quickstart
    from foreword.studies.report.results_table import write_table
    from foreword.training.progress import progress_tracker

    done = run_quickstart(output, progress_tracker)
    console = Console(highlight=False)
    console.print()
    console.print(write_table(done.runs))
    console.print(f"{len(done.answers)} questions of {len(done.artifacts)} tasks, answered in one forward pass:")
    for answer in done.answers[: len(done.artifacts)]:
        typer.echo(f"  {json.dumps(answer, ensure_ascii=False)}")
    typer.echo(f"\nReport: {done.report}")
    name, artifact = next(iter(done.artifacts.items()))
    typer.echo(f"Next:   foreword predict {artifact} --input {output}/data/{name}-dev.jsonl")
