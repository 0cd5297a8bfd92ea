"""Run a recipe: a folder that holds its log, its checkpoint and, when done, its artifact.

OUTPUT/
  run.json                 says that the folder is ours
  recipe.toml              the resolved recipe, every default written out
  log.jsonl                what happened
  checkpoint.safetensors   while it runs: everything `--resume` needs
  artifact/                when it is done
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import tomli_w

from foreword.backbones import Backbone
from foreword.errors import OutputError
from foreword.methods import Blueprint, check_changes
from foreword.recipes.schema import Recipe
from foreword.recipes.workbench import Workbench
from foreword.training.checkpoint import check_checkpoint
from foreword.training.run import Prepared, TrainedRun, run_digest, train_prepared
from foreword.training.tracking import JSONLinesTracker, TensorBoardTracker, Tracker, Trackers, require_tensorboard
from foreword.training.transfer import start

MARKER, RECIPE, LOG, CHECKPOINT, ARTIFACT = (
    "run.json",
    "recipe.toml",
    "log.jsonl",
    "checkpoint.safetensors",
    "artifact",
)


def run_recipe(
    recipe: Recipe,
    output: Path,
    *,
    resume: bool = False,
    tracker: Tracker | None = None,
    bench: Workbench | None = None,
    score_test: bool = True,
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

    Raises:
        OutputError: the folder is not ours, or holds another run.
        Interrupted: by Ctrl-C, after the state was saved.
    """
    check_output(output, resume=resume)
    bench = bench or Workbench()
    backbone = bench.backbone(recipe)
    check_method(recipe, backbone)
    prepared = bench.prepare(recipe, backbone)
    if not score_test:
        prepared = replace(prepared, test=None)
    check_start(recipe, backbone, prepared)
    resuming = resume and (output / CHECKPOINT).is_file()
    if resuming:  # a checkpoint that is not this run's is told of before its recipe is written over
        check_checkpoint(output / CHECKPOINT, run_digest(recipe.to_dict(), prepared, backbone))
    if recipe.training.tensorboard:
        require_tensorboard()
    _open_output(output, recipe)
    trackers: list[Tracker] = [JSONLinesTracker(output / LOG, append=resuming)]
    if recipe.training.tensorboard:
        trackers.append(TensorBoardTracker(output / "tensorboard"))
    if tracker is not None:
        trackers.append(tracker)
    everyone = Trackers(*trackers)
    try:
        run = train_prepared(
            backbone,
            recipe.method,
            prepared,
            recipe.training,
            tracker=everyone,
            checkpoint=output / CHECKPOINT,
            resume=resuming,
            recipe=recipe.to_dict(),
        )
    finally:
        everyone.close()
    run.save(output / ARTIFACT)
    (output / CHECKPOINT).unlink(missing_ok=True)
    return run


def check_method(recipe: Recipe, backbone: Backbone) -> None:
    """See that the method of a recipe fits its backbone, before anything is read or made.

    Raises:
        MethodError: it does not.
    """
    recipe.method.build(Blueprint(backbone))
    check_changes(recipe.method, backbone)


def check_start(recipe: Recipe, backbone: Backbone, prepared: Prepared) -> None:
    """See that the prompt of a recipe can begin with the one it is to start from, where there is one.

    Raises:
        MethodError: it cannot.
    """
    if prepared.start is not None:
        start(recipe.method, recipe.method.build(Blueprint(backbone), prepared.task.labels or ()), prepared.start)


def check_output(output: Path, *, resume: bool) -> None:
    """Refuse a folder we may not write to.

    Raises:
        OutputError: saying what to do instead.
    """
    if (output / ARTIFACT).exists():
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


def _open_output(output: Path, recipe: Recipe) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        (output / MARKER).write_text(json.dumps({"format": "foreword-run", "name": recipe.name}) + "\n", "utf-8")
        (output / RECIPE).write_text(tomli_w.dumps(recipe.to_dict()), "utf-8")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error
