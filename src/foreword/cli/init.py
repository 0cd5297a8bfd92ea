"""`foreword init`: a commented recipe for the user's own files."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from foreword.cli.printing import examples
from foreword.errors import OutputError

EXAMPLES = examples(
    "foreword init classification",
    "foreword init ner --output people.toml --train data/train.conll --dev data/dev.conll",
)


def init(
    task: Annotated[str, typer.Argument(metavar="TASK", help="A task; `foreword tasks` lists them.")],
    output: Annotated[Path, typer.Option(help="Where to write the recipe.")] = Path("recipe.toml"),
    train: Annotated[str | None, typer.Option(help="Your training data.")] = None,
    dev: Annotated[str | None, typer.Option(help="Your data to evaluate on while training.")] = None,
) -> None:
    """Write a commented recipe for your own files.

    The recipe also says how the files must look. A file that exists is never overwritten.
    """
    from foreword.cli.catalogue import pick
    from foreword.recipes.templates import write_recipe
    from foreword.tasks import TASKS

    pick(TASKS, task, "task")
    if output.exists():
        raise OutputError(f"{output}: exists already. Choose another --output")
    text = write_recipe(
        task, name=output.stem, train=_seen_from(output.parent, train), dev=_seen_from(output.parent, dev)
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
    typer.echo(f"wrote {output}\n\nNext: {shlex.join(['foreword', 'train', str(output)])}")


def _seen_from(folder: Path, file: str | None) -> str | None:
    """A data file as the recipe in ``folder`` must name it."""
    if file is None or file.startswith(("hub:", "$", "~")) or Path(file).is_absolute():
        return file
    return Path(os.path.relpath(file, folder)).as_posix()
