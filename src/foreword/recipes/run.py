"""Run a recipe: a folder that holds its log, its checkpoint and, when done, its artifact.

OUTPUT/
  run.json                 says that the folder is ours
  recipe.toml              the resolved recipe, every default written out
  log.jsonl                what happened
  checkpoint.safetensors   while it runs: everything `--resume` needs
  artifact/                when it is done
  artifacts/NAME/          instead, of a recipe of several tasks: one for each
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w

from foreword.artifacts.folders import whole_folder
from foreword.backbones import Backbone
from foreword.errors import OutputError, RecipeError
from foreword.methods import Blueprint, check_changes, fold, single
from foreword.recipes.multi_task import MultiTaskRecipe
from foreword.recipes.schema import Recipe
from foreword.recipes.workbench import Workbench, prepare_entry
from foreword.tasks import WritingTask
from foreword.training.checkpoint import check_checkpoint
from foreword.training.prepared import Prepared
from foreword.training.processes import Processes, alone
from foreword.training.run import Keeping, TrainedRun, check_sharing, run_digest, train_several
from foreword.training.sharding import check_sharding
from foreword.training.side_by_side import Planned, train_side_by_side
from foreword.training.tracking import JSONLinesTracker, TensorBoardTracker, Tracker, Trackers, require_tensorboard
from foreword.training.trunk import check_trunk

MARKER, RECIPE, LOG, CHECKPOINT, ARTIFACT, ARTIFACTS = (
    "run.json",
    "recipe.toml",
    "log.jsonl",
    "checkpoint.safetensors",
    "artifact",
    "artifacts",
)


def run_recipe(
    recipe: Recipe,
    output: Path,
    *,
    resume: bool = False,
    tracker: Tracker | None = None,
    bench: Workbench | None = None,
    score_test: bool = True,
    processes: Processes | None = None,
) -> TrainedRun:
    """Train what a recipe says and write the artifact to ``output/artifact``.

    Nothing is written before recipe, data and backbone are found good.

    Args:
        recipe: checked.
        output: a folder that does not exist, is empty, or (with ``resume``) holds this run.
        resume: go on from its checkpoint.
        tracker: told about every event, besides the log.
        bench: where backbone and encoded data are taken from; they are loaded for this run alone if None.
        score_test: whether the best weights are scored on test data, where the recipe has some.
        processes: that train it together, of which the main one writes; this one alone if None.

    Raises:
        OutputError: the folder is not ours, or holds another run.
        Interrupted: by Ctrl-C, after the state was saved.
    """
    job = Job(recipe, output, resume, tracker, score_test, processes)
    (run,) = run_side_by_side([job], bench=bench)
    if isinstance(run, Exception):
        raise run
    return run


@dataclass(frozen=True)
class Job:
    """A recipe to run; all as `run_recipe` takes it."""

    recipe: Recipe
    output: Path
    resume: bool = False
    tracker: Tracker | None = None
    score_test: bool = True
    processes: Processes | None = None


def run_side_by_side(jobs: Sequence[Job], *, bench: Workbench | None = None) -> list[TrainedRun | Exception]:
    """Run recipes as `run_recipe` does, each in its folder, but train them side by side.

    Args:
        jobs: of one backbone; several must be such that they can share its passes (`train_side_by_side`).
        bench: where backbone and encoded data are taken from.

    Returns:
        Per job, in order, its run, or the exception that ended it or that it could not begin for.

    Raises:
        RecipeError, MethodError: they cannot go side by side.
        Interrupted: by Ctrl-C, after the state of all was saved.
    """
    if len({job.recipe.backbone.model_dump_json() for job in jobs}) > 1:
        raise RecipeError("backbone: runs side by side share one, and these recipes name several")
    bench, found = bench or Workbench(), list[tuple[Backbone, Planned] | Exception]()
    with ExitStack() as open_folders:
        for job in jobs:
            try:
                found.append(open_folders.enter_context(_planned(job, bench)))
            except Exception as error:
                found.append(error)
        good = [one for one in found if not isinstance(one, Exception)]
        trained = iter(train_side_by_side(good[0][0], [planned for _, planned in good]) if good else [])
    return [
        one if isinstance(one, Exception) else _saved(next(trained), job.output)
        for one, job in zip(found, jobs, strict=True)
    ]


@contextmanager
def _planned(job: Job, bench: Workbench) -> Iterator[tuple[Backbone, Planned]]:
    """What a job trains, all being checked; its folder is open while it lasts."""
    recipe, processes = job.recipe, job.processes or alone()

    def ready() -> tuple[Backbone, Prepared]:
        backbone = bench.backbone(recipe)
        check_method(recipe, backbone)
        check_sharding(recipe.method, recipe.training, backbone, processes)
        prepared = bench.prepare(recipe, backbone)
        check_start(recipe, backbone, prepared)
        return backbone, prepared if job.score_test else replace(prepared, test=None)

    processes.led(lambda: check_output(job.output, resume=job.resume))
    backbone, prepared = processes.agreed(ready)
    own = {recipe.task.name: prepared}
    with _open_run(recipe, own, backbone, job.output, processes, resume=job.resume, tracker=job.tracker) as keeping:
        yield backbone, Planned(recipe.method, prepared, recipe.training, keeping)


def _saved(run: TrainedRun | Exception, output: Path) -> TrainedRun | Exception:
    """A run whose artifact is written."""
    if isinstance(run, Exception):
        return run

    def finish() -> None:
        run.save(output / ARTIFACT)
        (output / CHECKPOINT).unlink(missing_ok=True)

    try:
        run.processes.led(finish)
    except Exception as error:
        return error
    return run


def run_multi_task_recipe(
    recipe: MultiTaskRecipe,
    output: Path,
    *,
    resume: bool = False,
    tracker: Tracker | None = None,
    processes: Processes | None = None,
) -> dict[str, TrainedRun]:
    """Train what a recipe of several tasks says and write an artifact for each to ``output/artifacts/NAME``.

    Args:
        recipe: checked.
        output, resume, tracker, processes: as in `run_recipe`.

    Raises:
        OutputError, Interrupted: as `run_recipe` does.
    """
    processes = processes or alone()

    def ready() -> tuple[Backbone, dict[str, Prepared]]:
        check_sharing(recipe.method, recipe.training, len(recipe.tasks))
        backbone = Workbench().backbone(recipe)
        check_method(recipe, backbone)
        check_sharding(recipe.method, recipe.training, backbone, processes)
        prepared = {name: prepare_entry(entry, recipe, backbone) for name, entry in recipe.tasks.items()}
        for one in prepared.values():
            check_start(recipe, backbone, one)
        return backbone, prepared

    def finish() -> None:
        with whole_folder(output / ARTIFACTS) as folder:
            for name, run in runs.items():
                run.save(folder / name)
        (output / CHECKPOINT).unlink(missing_ok=True)

    processes.led(lambda: check_output(output, resume=resume))
    backbone, prepared = processes.agreed(ready)
    with _open_run(recipe, prepared, backbone, output, processes, resume=resume, tracker=tracker) as keeping:
        runs = train_several(backbone, recipe.method, prepared, recipe.training, mixing=recipe.mixing, **vars(keeping))
    processes.led(finish)
    return runs


@contextmanager
def _open_run(
    recipe: Recipe | MultiTaskRecipe,
    prepared: Mapping[str, Prepared],
    backbone: Backbone,
    output: Path,
    processes: Processes,
    *,
    resume: bool,
    tracker: Tracker | None,
) -> Iterator[Keeping]:
    """Open the folder of a run, all being checked, and its log while it lasts."""

    def begin() -> bool:
        resuming = resume and (output / CHECKPOINT).is_file()
        if resuming:  # a checkpoint that is not this run's is told of before its recipe is written over
            check_checkpoint(output / CHECKPOINT, run_digest(recipe.to_dict(), prepared, backbone))
        if recipe.training.tensorboard:
            require_tensorboard()
        _open_output(output, recipe)
        return resuming

    resuming = processes.led(begin)
    everyone = Trackers(*(_trackers(recipe, output, tracker, append=resuming) if processes.main else ()))
    try:
        yield Keeping(everyone, output / CHECKPOINT, resuming, recipe.to_dict(), processes)
    finally:
        everyone.close()


def _trackers(
    recipe: Recipe | MultiTaskRecipe, output: Path, tracker: Tracker | None, *, append: bool
) -> list[Tracker]:
    trackers: list[Tracker] = [JSONLinesTracker(output / LOG, append=append)]
    if recipe.training.tensorboard:
        trackers.append(TensorBoardTracker(output / "tensorboard"))
    return [*trackers, *([tracker] if tracker is not None else [])]


def check_method(recipe: Recipe | MultiTaskRecipe, backbone: Backbone) -> None:
    """See that the method of a recipe fits its backbone and its tasks, before anything is read or made.

    Raises:
        MethodError: it does not.
    """
    encoder = recipe.method.build(Blueprint(backbone))
    tasks = [recipe.task] if isinstance(recipe, Recipe) else [one.task for one in recipe.tasks.values()]
    if encoder is not None and any(isinstance(task, WritingTask) for task in tasks):
        single(fold(encoder))
    check_changes(recipe.method, backbone)
    check_trunk(recipe.method, backbone, recipe.training, writes=any(isinstance(task, WritingTask) for task in tasks))


def check_start(recipe: Recipe | MultiTaskRecipe, backbone: Backbone, prepared: Prepared) -> None:
    """See that the method of a recipe can begin with what it is to start from, where there is something.

    Raises:
        ArtifactError, MethodError: it cannot.
    """
    if prepared.start is not None:
        prepared.start.check_method(recipe.method, backbone, prepared.task.labels or ())


def check_output(output: Path, *, resume: bool) -> None:
    """Refuse a folder we may not write to.

    Raises:
        OutputError: saying what to do instead.
    """
    if (output / ARTIFACT).exists() or (output / ARTIFACTS).exists():
        raise OutputError(f"{output}: holds a finished run already. Choose another --output")
    if (output / MARKER).is_file():
        if not resume:
            raise OutputError(f"{output}: holds an unfinished run. Go on with --resume, or choose another --output")
        return
    if resume:
        raise OutputError(f"{output}: no run to resume here. Leave --resume out to start one")
    check_free(output)


def check_free(output: Path) -> None:
    """Refuse a folder with something in it.

    Raises:
        OutputError: there is.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: exists and is not a folder of ours. Choose another --output")


def _open_output(output: Path, recipe: Recipe | MultiTaskRecipe) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / MARKER).write_text(json.dumps({"format": "foreword-run", "name": recipe.name}) + "\n", "utf-8")
        (output / RECIPE).write_text(tomli_w.dumps(recipe.to_dict()), "utf-8")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
