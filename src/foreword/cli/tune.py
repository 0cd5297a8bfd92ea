"""`foreword tune`: search for better settings of a recipe."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreword.cli.loading import Changes, RecipeName
from foreword.cli.printing import examples, print_table, warn
from foreword.errors import ForewordError, RecipeError

if TYPE_CHECKING:
    from foreword.studies.tuning.search import Tuned
    from foreword.studies.tuning.trials import Trial

EXAMPLES = examples(
    "foreword tune recipe.toml",
    "foreword tune recipe.toml --search learning_rate,prompt_length --trials 12",
    "foreword tune recipe.toml --trials 24 --side-by-side 4",
    "foreword tune rte-ptuning-v2 --timeout 30 --set training.epochs=1 --output tuning/rte",
)


def tune(
    recipe: RecipeName,
    *,
    changes: Changes = None,
    search: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Search these settings only. (default: all that suit the method)"),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="End after so many, with those of before.")] = 20,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="MINUTES", help="Begin no further trial after so long.")
    ] = None,
    holdout: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Of the training data, to select on. (default: the recipe's, or 0.15)"),
    ] = None,
    pruner: Annotated[
        str, typer.Option(metavar="NAME", help="How hopeless trials are given up: median, halving or none.")
    ] = "median",
    seed: Annotated[int, typer.Option(min=0, help="Of what is proposed; runs keep the recipe's.")] = 11,
    side_by_side: Annotated[
        int, typer.Option(min=1, metavar="K", help="Propose so many trials at a time, and train them in one pass.")
    ] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder of the search. (default: tuning/NAME)")] = None,
) -> None:
    """Search for better settings of a recipe, and write the best of them as a recipe. Needs the extra 'tune'.

    Trials are selected on a part of the training data. Dev data, or the recipe's test data, are scored once in the end.

    The same command goes on with a search that was stopped; with more --trials also with one that has ended.
    """
    if find_spec("optuna") is None:
        raise ForewordError("searching needs optuna. Run: pip install 'foreword[tune]'")
    from foreword.recipes import load_recipe
    from foreword.studies.tuning.importance import importances
    from foreword.studies.tuning.journal import PRUNERS
    from foreword.studies.tuning.search import MARK, Plan, Search
    from foreword.studies.tuning.summary import write_summary
    from foreword.training.loop import Interrupted
    from foreword.training.progress import progress_tracker

    if pruner not in PRUNERS:
        raise RecipeError(f"--pruner {pruner}: expected {', '.join(PRUNERS)}")
    if holdout is not None and not 0 < holdout < 1:
        raise RecipeError(f"--holdout {holdout}: expected a share between 0 and 1")
    names = tuple(name.strip() for name in search.split(",")) if search is not None else ()
    checked = load_recipe(recipe, changes or ())
    folder = output or Path("tuning") / checked.name
    plan = Plan(names, trials, timeout, holdout, pruner, seed, side_by_side)
    try:
        work = Search(checked, folder, plan)
        for note in work.notes:
            warn(note)
        work.run(partial(progress_tracker, beside=True) if side_by_side > 1 else progress_tracker, _say)
        tuned = work.finish(progress_tracker)
    except (Interrupted, KeyboardInterrupt) as stop:
        if not (folder / MARK).is_file():
            raise
        typer.echo("stopped. The same command goes on; with fewer --trials it ends with what there is", err=True)
        raise typer.Exit(130) from stop
    found = importances(tuned.trials, tuned.space, seed=seed)
    write_summary(folder, tuned, found)
    _report(folder, tuned, found)


SHOWN = 5
"""Trials that are printed; the summary and the table have more."""


def _say(trial: Trial) -> None:
    from foreword.studies.tuning.trials import in_words

    value = "no value" if trial.value is None else f"{trial.metric} {trial.value:.4f}"
    typer.echo(f"trial {trial.number} {trial.end}: {value}; {in_words(trial.settings)}", err=True)


def _report(folder: Path, tuned: Tuned, importances: dict[str, float]) -> None:
    from foreword.studies.tuning.summary import PAGE, RECIPE, cells, test_words
    from foreword.studies.tuning.trials import in_words, ranked

    rows = ((*cells(one)[:3], in_words(one.settings)) for one in ranked(tuned.trials)[:SHOWN])
    print_table(rows, ("trial", "", tuned.best.metric, "settings"))
    if importances:
        typer.echo(
            "\nExplains of the differences: " + ", ".join(f"{p} {share:.0%}" for p, share in importances.items())
        )
    typer.echo(f"\nBest: {in_words(tuned.best.settings)}. {test_words(folder, tuned)}")
    typer.echo(f"\nSummary: {folder / PAGE}\nNext:    foreword train {folder / RECIPE}")
