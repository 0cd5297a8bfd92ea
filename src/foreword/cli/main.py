"""The `foreword` command: its subcommands, and what becomes of errors.

Exit codes: 0 done; 1 a bug of ours, or nobody reads our output any more; 2 something the user
gave us is wrong; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import foreword
from foreword.cli import (
    ablate,
    catalogue,
    compare,
    evaluate,
    export,
    import_,
    init,
    inspect,
    predict,
    quickstart,
    registry,
    serve,
    train,
    tune,
)
from foreword.cli.printing import examples
from foreword.errors import ForewordError

TRACEBACK = "FOREWORD_TRACEBACK"

TOLD_BY_MAIN = ("training.interrupted", "training.diverged", "training.followed")
"""Codes of what happens to all processes of a run at once."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"foreword {foreword.__version__}")
        raise typer.Exit


@app.callback(
    epilog=examples(
        "foreword init classification --train train.jsonl --dev dev.jsonl",
        "foreword train recipe.toml",
        "foreword predict runs/recipe < questions.jsonl > answers.jsonl",
    )
)
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    show_traceback: Annotated[
        bool, typer.Option("--traceback", envvar=TRACEBACK, help="On an error, print where it came from.")
    ] = False,
) -> None:
    """Adapt one frozen transformer to many tasks with a small foreword of learned vectors each."""
    del version
    ctx.obj["traceback"] = show_traceback


for name, command, epilog in (
    ("init", init.init, init.EXAMPLES),
    ("train", train.train, train.EXAMPLES),
    ("tune", tune.tune, tune.EXAMPLES),
    ("ablate", ablate.ablate, ablate.EXAMPLES),
    ("evaluate", evaluate.evaluate, evaluate.EXAMPLES),
    ("predict", predict.predict, predict.EXAMPLES),
    ("serve", serve.serve, serve.EXAMPLES),
    ("inspect", inspect.inspect, inspect.EXAMPLES),
    ("import", import_.import_, import_.EXAMPLES),
    ("compare", compare.compare, compare.EXAMPLES),
    ("export", export.export, export.EXAMPLES),
    ("quickstart", quickstart.quickstart, quickstart.EXAMPLES),
    ("methods", catalogue.methods, catalogue.METHODS_EXAMPLES),
    ("tasks", catalogue.tasks, catalogue.TASKS_EXAMPLES),
    ("backbones", catalogue.backbones, None),
    ("recipes", catalogue.recipes, catalogue.RECIPES_EXAMPLES),
):
    app.command(name, epilog=epilog)(command)
app.add_typer(registry.app, name="registry")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; those of the process if None.

    Returns:
        The exit code.
    """
    chosen = {"traceback": bool(os.environ.get(TRACEBACK))}
    try:
        return _run(arguments, chosen)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ForewordError as error:
        code = 130 if error.code == "training.interrupted" else 2
        if error.code in TOLD_BY_MAIN and _rank():
            return code
        return _fail(f"error: {error}", code, chosen["traceback"])
    except Exception as error:  # whatever it is, it gets a message and not a page of code
        report = f"{type(error).__name__}: {error}".rstrip(": ")
        hint = "" if chosen["traceback"] else "\nRun it again as `foreword --traceback ...` to see where it came from."
        message = f"unexpected error: {report}\nThis is a bug in Foreword. Please report it with the line above.{hint}"
        return _fail(message, 1, chosen["traceback"])


def _run(arguments: Sequence[str] | None, chosen: dict[str, bool]) -> int:
    """Typer's own way out is an exception; turn it into its exit code."""
    code = 0
    try:
        app(args=arguments, prog_name="foreword", obj=chosen)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    sys.stdout.flush()
    return code


def _fail(message: str, code: int, show_traceback: bool) -> int:
    """Report the exception in hand, with the number of the process where there are several."""
    if show_traceback:
        traceback.print_exc()
    rank = _rank()
    typer.echo(f"process {rank}: {message}" if rank else message, err=True)
    return code


def _rank() -> int:
    """Which process of a run this is (`foreword.training.processes`); 0 is the main one, or the only one."""
    rank = os.environ.get("RANK", "")
    return int(rank) if rank.isdigit() else 0
