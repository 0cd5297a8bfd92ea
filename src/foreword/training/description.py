"""What the artifact of a run says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreword.artifacts.format import backbone_entry
from foreword.artifacts.manifest import (
    FORMAT_VERSION,
    BackboneEntry,
    Component,
    DataEntry,
    Manifest,
    MetricsEntry,
    ParametersEntry,
    TrainingEntry,
    library_versions,
)
from foreword.methods import Method
from foreword.metrics.scores import Scores
from foreword.model import PromptedModel
from foreword.tasks import Task
from foreword.training.loop import Outcome
from foreword.training.settings import TrainingSettings

PATHS = (("training", "start_from"), ("task", "vocabulary"))
"""Section and key of the paths that a recipe names outside its data."""


def describe(
    model: PromptedModel,
    outcome: Outcome,
    settings: TrainingSettings,
    *,
    recipe: Mapping[str, Any],
    data: Mapping[str, DataEntry],
    test: Scores | None,
) -> Manifest:
    """The manifest of a trained model, without its files.

    Args:
        model: with its best weights.
        outcome: how it came to be.
        settings: how it was trained.
        recipe: the task's own (`recipe_of`).
        data: side -> what was read.
        test: scores on test examples, where there are some.
    """
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}
    return Manifest(
        format_version=FORMAT_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backbone=BackboneEntry(**backbone_entry(model.backbone)),
        task=_component(outcome.task),
        method=_component(model.method),
        recipe=_without_folders(recipe),
        max_length=settings.max_length,
        data=dict(data),
        metrics=MetricsEntry(**outcome.scores.to_json()),
        test=None if test is None else MetricsEntry(**test.to_json()),
        parameters=ParametersEntry(
            prompt=counts.get("prompt", 0),
            attachment=counts.get("attachment", 0),
            head=counts["head"],
            backbone_trained=sum(p.numel() for p in model.tuned_weights().values()),
            backbone=model.backbone.parameter_count,
        ),
        training=TrainingEntry(
            seed=settings.seed,
            steps=outcome.progress.step,
            best_step=outcome.progress.best_step,
            seconds=round(outcome.progress.seconds, 3),
            padding=round(outcome.padding, 4),
            evaluations=outcome.progress.evaluations,
            trunk_cache=None if outcome.trunk_cache is None else dict(outcome.trunk_cache),
        ),
        versions=library_versions(),
        files={},
    )


def recipe_of(recipe: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One task's own recipe out of one for several: its tables, and those of the others under 'together'.

    Args:
        recipe: of a run; one without 'tasks' is returned as it is.
        name: of the task in it.
    """
    own = dict(recipe)
    if "tasks" in recipe:
        tasks = own.pop("tasks")
        own |= tasks[name] | {"together": {other: tables for other, tables in tasks.items() if other != name}}
        if "name" in own:
            own["name"] = f"{own['name']}/{name}"
    return own


def _component(settings: Task[Any, Any] | Method) -> Component:
    return Component(type=settings.name, settings=settings.model_dump(mode="json"))


def _without_folders(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with its files by name alone: where they lay is nobody's business in a published artifact."""
    plain, data = dict(recipe), recipe.get("data", {})
    names = {side: [Path(file).name for file in data[side]] for side in ("train", "dev", "test") if side in data}
    if names:
        plain["data"] = {**data, **names}
    for section, key in PATHS:
        table = recipe.get(section, {})
        if table.get(key) is not None:
            plain[section] = {**table, key: Path(table[key]).name}
    if "together" in recipe:
        plain["together"] = {name: _without_folders(tables) for name, tables in recipe["together"].items()}
    return plain
