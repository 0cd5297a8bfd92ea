"""`foreword compare`: methods, data sets and seeds in one table."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreword.cli.printing import examples, print_table, warn
from foreword.errors import OutputError, RecipeError

if TYPE_CHECKING:
    from foreword.studies.cells.cell import Cell, CellRecord
    from foreword.studies.cells.study import Study

EXAMPLES = examples(
    "foreword compare study.toml --jobs 2",
    "foreword compare study.toml --only conll04,rte --seeds 11",
    "foreword compare conll04-ptuning-v2 conll04-fine-tuning --seeds 11,12",
    "foreword compare study.toml --side-by-side 4",
    "foreword compare study.toml --table",
)


def compare(
    what: Annotated[list[str], typer.Argument(metavar="STUDY.toml | RECIPE...", help="A study file, or recipes.")],
    *,
    output: Annotated[Path | None, typer.Option(help="Folder of the study. (default: studies/NAME)")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the work and the cores.")] = 1,
    side_by_side: Annotated[
        int, typer.Option(min=1, metavar="K", help="Runs of one recipe that a process trains at once, in one pass.")
    ] = 1,
    only: Annotated[str | None, typer.Option(metavar="A,B", help="Only these data sets.")] = None,
    methods: Annotated[str | None, typer.Option(metavar="A,B", help="Only these methods.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="11,12", help="Only these seeds.")] = None,
    holdout: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="With recipes: share of the training data to select on.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the artifact of every cell.")] = False,
    table: Annotated[bool, typer.Option("--table", help="Run nothing; show what is finished.")] = False,
) -> None:
    """Train several methods on several data sets with several seeds, and compare.

    Every method gets the same data, number of trials and seeds. What is finished is never run again, and a changed
    setting reruns its own cells only; call it again to go on after Ctrl-C, or from several shells at once. The files
    it writes always show the whole study. Exits with 2 if cells failed.
    """
    from foreword.studies.cells.running import run_study
    from foreword.training.loop import Interrupted

    study = _study(what, holdout)
    part = study.only(data=listed(only), methods=listed(methods), seeds=numbers(seeds))
    folder = output or Path("studies") / study.name
    if not table:
        if side_by_side > 1:
            _warn_of_those_alone(part)
        try:
            run_study(part, folder, jobs=jobs, side_by_side=side_by_side, keep=keep, report=say)
        except (Interrupted, KeyboardInterrupt) as stop:
            typer.echo(f"stopped\nGo on with: {shlex.join(['foreword', *sys.argv[1:]])}", err=True)
            raise typer.Exit(130) from stop
    _show(study, part, folder)


def _warn_of_those_alone(study: Study) -> None:
    """Say which runs go one after another all the same, and why."""
    from foreword.training.side_by_side import why_alone

    recipes = [cell.checked for cell in study.cells({})]
    reasons = (why_alone(recipe.method, recipe.task) for recipe in recipes)
    for reason in dict.fromkeys(filter(None, reasons)):
        warn(f"one after another: {reason}")


def _show(study: Study, part: Study, folder: Path) -> None:
    """Print the table of what was asked for, and write that of the whole study in every form."""
    from foreword.studies.cells.store import Store
    from foreword.studies.comparison.comparison import compare as compared
    from foreword.studies.comparison.files import write_files
    from foreword.studies.comparison.tables import failures, introduction, score_table

    store = Store(folder)
    comparison = compared(part, store)
    if not comparison.cells[0]:
        raise OutputError(f"{folder}: no cell of this study is finished there. Run it, or choose its --output")
    table = score_table(comparison)
    rows = [
        (*row.heads, *(f"{cell.words}{'*' * cell.best} {cell.ratio}".rstrip() for cell in row.cells))
        for row in table.rows
    ]
    print_table(rows, (*map(str.lower, table.corner), *table.columns))
    typer.echo(f"\n{introduction(comparison).replace('bold', 'starred')}")
    typer.echo(f"\nWritten: {', '.join(map(str, write_files(folder, compared(study, store))))}")
    failed = failures(comparison)
    for failure in failed:
        warn(f"failed: {failure}")
    if failed:
        raise typer.Exit(2)


def say(cell: Cell, record: CellRecord) -> None:
    """One line on stderr about a cell that is over."""
    from foreword.studies.wording import duration, metric_name, percent

    result = record.result
    if result is None:
        typer.echo(f"{cell.name}: FAILED: {record.error}", err=True)
        return
    score = f"{metric_name(result.main)} {percent(result.selected_by)} where selected"
    tested = "" if result.test is None else f", {percent(result.value)} on test"
    cost = f"{result.steps} steps, {duration(result.wall_seconds)}"
    typer.echo(f"{cell.name}: {score}{tested}; {cost}", err=True)


def _study(what: list[str], holdout: float | None) -> Study:
    """What the arguments name."""
    from foreword.studies.cells.study_file import HOLDOUT, is_study, load_study, study_of_recipes

    if is_study(what[0]):
        if len(what) > 1:
            raise RecipeError(f"{what[0]} is a study; give it alone, or recipes without a study")
        if holdout is not None:
            raise RecipeError(f"--holdout is for recipes; {what[0]} says itself what is put aside")
        return load_study(Path(what[0]))
    return study_of_recipes(what, holdout=HOLDOUT if holdout is None else holdout)


def listed(option: str | None) -> list[str] | None:
    """What commas separate; None stays None."""
    return None if option is None else [one.strip() for one in option.split(",") if one.strip()]


def numbers(option: str | None) -> list[int] | None:
    """Whole numbers separated by commas; None stays None."""
    try:
        return None if option is None else [int(one) for one in option.split(",")]
    except ValueError as error:
        raise RecipeError(f"--seeds {option}: expected whole numbers separated by commas, such as 11,12") from error
