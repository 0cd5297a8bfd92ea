"""`foreword train`: from a recipe to an artifact."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreword.cli.loading import Changes, RecipeName
from foreword.cli.printing import examples, folder_size, print_table, score_rows, share_words, warn
from foreword.studies.wording import size

if TYPE_CHECKING:
    from foreword.training.run import TrainedRun

EXAMPLES = examples(
    "foreword train recipe.toml",
    "foreword train recipe.toml --set training.epochs=3 --set method.prompt_length=8 --output runs/short",
    "foreword train recipe.toml --resume",
    "foreword train ner-multi-task",
    "accelerate launch --multi_gpu --num_processes 4 -m foreword train recipe.toml",
)


def train(
    recipe: RecipeName,
    changes: Changes = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for log, checkpoint and artifact. (default: runs/NAME of the recipe)")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in that folder.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also log for TensorBoard.")] = False,
) -> None:
    """Train a soft prompt and a head as a recipe says; of a recipe of several tasks, one prompt and a head for each.

    Recipe, data and backbone are checked before anything is written; the best weights seen on dev are kept.

    Ctrl-C saves the run, and --resume takes it up again, to the same bits.

    Behind `accelerate launch` or `torchrun` several processes train it together, to the same result.
    """
    from foreword.recipes import MultiTaskRecipe, load_any_recipe, run_multi_task_recipe, run_recipe
    from foreword.recipes.run import ARTIFACT, ARTIFACTS, MARKER
    from foreword.training.loop import Interrupted
    from foreword.training.processes import launched, left_alone
    from foreword.training.progress import progress_tracker

    overrides = [*(changes or ()), *(["training.tensorboard=true"] if tensorboard else ())]
    processes = launched()
    if note := left_alone():
        warn(note)
    checked = processes.agreed(lambda: load_any_recipe(recipe, overrides))
    folder = output or Path("runs") / checked.name
    how: dict[str, Any] = {"resume": resume, "tracker": progress_tracker(), "processes": processes}
    try:
        if isinstance(checked, MultiTaskRecipe):
            runs = run_multi_task_recipe(checked, folder, **how)
            if processes.main:
                _report_together(runs, folder / ARTIFACTS)
        else:
            run = run_recipe(checked, folder, **how)
            if processes.main:
                _report(run, folder / ARTIFACT)
    except (Interrupted, KeyboardInterrupt) as stop:
        if not processes.main or not (folder / MARKER).is_file():
            raise
        typer.echo(f"{str(stop) or 'stopped'}\nGo on with: {resume_command(recipe, overrides, folder)}", err=True)
        raise typer.Exit(130) from stop
    processes.leave()


def resume_command(recipe: str, overrides: list[str], folder: Path) -> str:
    """What to type to go on."""
    changes = [word for override in overrides for word in ("--set", override)]
    return shlex.join(["foreword", "train", recipe, *changes, "--output", str(folder), "--resume"])


def _report(run: TrainedRun, artifact: Path) -> None:
    manifest = run.manifest()
    print_table(
        [
            *score_rows({**run.outcome.scores.values, **run.outcome.scores.measures}),
            *(
                (f"test {name}", value)
                for name, value in score_rows({**run.test.values, **run.test.measures} if run.test else {})
            ),
            ("trained parameters", share_words(manifest.parameters.trained, manifest.parameters.backbone)),
            ("padding in training", f"{manifest.training.padding:.1%}"),
            ("artifact", f"{artifact} ({size(folder_size(artifact))})"),
        ]
    )
    for warning in run.warnings:
        warn(warning)
    typer.echo(f"\nNext: {shlex.join(['foreword', 'predict', str(artifact)])} --input FILE.jsonl")


def _report_together(runs: dict[str, TrainedRun], artifacts: Path) -> None:
    rows = []
    for name, run in runs.items():
        scores, place = run.outcome.scores, artifacts / name
        test = f"{run.test.main_value:.4f}" if run.test else ""
        trained = f"{run.manifest().parameters.trained:,}"
        found = (name, scores.main, f"{scores.main_value:.4f}", test, trained)
        rows.append((*found, f"{place} ({size(folder_size(place))})"))
    print_table(rows, ("task", "metric", "dev", "test", "trained", "artifact"))
    for name, run in runs.items():
        for warning in run.warnings:
            warn(f"{name}: {warning}")
    start = f"training.start_from={artifacts / next(iter(runs))}"
    again = shlex.join(["foreword", "train", "RECIPE", "--set", start, "--set", "training.start_head=true"])
    typer.echo(f"\nNext, a task alone from there: {again}")
