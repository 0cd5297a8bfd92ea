"""`foreword ablate`: one setting of a recipe varied, as a figure and a table."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreword.cli.compare import listed, numbers, say
from foreword.cli.loading import Changes, RecipeName
from foreword.cli.printing import examples, print_table, warn
from foreword.errors import ForewordError, RecipeError

if TYPE_CHECKING:
    from foreword.studies.ablations.results import Plan

EXAMPLES = examples(
    "foreword ablate conll04-ptuning-v2 --vary prompt-length --seeds 11,12,13",
    "foreword ablate rte-ptuning-v2 --vary depth --vary gate --set training.epochs=1",
    "foreword ablate recipe.toml --vary method.dropout --values 0.0,0.1,0.3",
    "foreword ablate recipe.toml --vary head --words 0=false,1=true",
)


def ablate(
    recipe: RecipeName,
    *,
    vary: Annotated[
        list[str],
        typer.Option(
            metavar="AXIS",
            help="prompt-length, depth, reparameterization, head, gate, init, or a setting such as method.dropout; may "
            "be repeated.",
        ),
    ],
    values: Annotated[str | None, typer.Option(metavar="A,B", help="What to try on the axis.")] = None,
    seeds: Annotated[str, typer.Option(metavar="11,12", help="Run each configuration with these.")] = "11",
    rates: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Let each configuration choose among these learning rates, where it selects."),
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="head: the text around the mask. (default: '{text} {mask}', or with a pair)")
    ] = None,
    words: Annotated[
        str | None, typer.Option(metavar="LABEL=WORD,...", help="head: the words that stand for labels.")
    ] = None,
    changes: Changes = None,
    holdout: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the training data to select on, so that dev data are test.")
    ] = 0.15,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work and the cores.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder for runs and figures. (default: ablations/NAME)")] = None,
    table: Annotated[bool, typer.Option("--table", help="Run nothing; draw what is finished.")] = False,
) -> None:
    """Vary one setting of a recipe and keep all others, as the ablations of the P-Tuning v2 paper do.

    Each axis gives a figure (PNG), a table (Markdown) and data (JSON). What is finished is never run again.
    """
    from foreword.studies.ablations.axes import Subject, axis_of
    from foreword.studies.ablations.results import Plan
    from foreword.studies.cells.running import run_study
    from foreword.training.loop import Interrupted

    if values is not None and len(vary) > 1:
        raise RecipeError("--values belong to one axis: give one --vary")
    subject = Subject(recipe, tuple(changes or ()), template, _words(words))
    axes = tuple(axis_of(name, listed(values) or [], subject) for name in dict.fromkeys(vary))
    plan = Plan(subject, axes, tuple(numbers(seeds) or ()), tuple(listed(rates) or ()), holdout)
    study, folder = plan.study, output or Path("ablations") / subject.checked.name
    if not table:
        try:
            run_study(study, folder, jobs=jobs, report=say)
        except (Interrupted, KeyboardInterrupt) as stop:
            typer.echo(f"stopped\nGo on with: {shlex.join(['foreword', *sys.argv[1:]])}", err=True)
            raise typer.Exit(130) from stop
    _draw(plan, folder)


def _draw(plan: Plan, folder: Path) -> None:
    """Write and print every axis of which something is finished."""
    from foreword.studies.ablations.results import collect
    from foreword.studies.ablations.summary import rows, write_ablation
    from foreword.studies.cells.store import Store

    over = {key: record.result for key, record in Store(folder).records().items()}
    found = [collect(plan, axis, over) for axis in plan.axes]
    if not any(found):
        raise ForewordError(f"{folder}: none of these runs is finished")
    for axis, ablation in zip(plan.axes, found, strict=True):
        if ablation is None:
            warn(f"{axis.name}: nothing is finished")
            continue
        write_ablation(folder, ablation)
        header, *body = rows(ablation)
        print_table(body, header)
        if ablation.missing:
            warn(f"{axis.name}: {ablation.missing} runs failed or were not run; see {folder / 'cells'}")
        typer.echo(f"\nFigure: {folder / axis.name}.png\n")


def _words(option: str | None) -> dict[str, str]:
    """``0=false,1=true`` as a table."""
    pairs = [one.partition("=") for one in listed(option) or ()]
    if any(not equals or not word for _, equals, word in pairs):
        raise RecipeError(f"--words {option}: expected LABEL=WORD, separated by commas, such as 0=false,1=true")
    return {label: word for label, _, word in pairs}
