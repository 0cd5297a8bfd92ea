"""Cells of a study: training runs that know themselves again, and what is kept of a finished one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from foreword.artifacts.manifest import DataEntry, MetricsEntry, ParametersEntry
from foreword.data.sources import Source
from foreword.recipes.load import load_recipe, written_override
from foreword.recipes.schema import Recipe

Tags = Mapping[str, str | int]


@dataclass(frozen=True)
class Cell:
    """One training run of a study.

    Attributes:
        recipe: a file, or the name of a packaged recipe.
        overrides: changes to it, as `foreword train --set` takes them.
        tags: what the study calls it, such as data, method and seed. They do not say what is run.
        score_test: whether it is scored on test data too, where there are some.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    tags: Tags = field(default_factory=dict)
    score_test: bool = True

    @cached_property
    def checked(self) -> Recipe:
        """The recipe with its changes.

        Raises:
            RecipeError: all mistakes at once.
        """
        return load_recipe(self.recipe, self.overrides)

    @cached_property
    def key(self) -> str:
        """Digest of all that is run: what differs from the defaults in the recipe, and the bytes of its data.

        Names, and where files lie, do not count. Neither do settings at the defaults they came with, so that a release
        which adds a setting, or changes a default, knows the cells again that were finished before it.
        """
        recipe = self.checked
        training = _chosen(recipe.training) | {"tensorboard": None, "start_from": _of_files(recipe.training.start_from)}
        data = _chosen(recipe.data) | {
            side: _of_files(*getattr(recipe.data, side)) for side in ("train", "dev", "test")
        }
        said = {
            "backbone": _chosen(recipe.backbone),
            "task": [recipe.task.name, _chosen(recipe.task)],
            "method": [recipe.method.name, _chosen(recipe.method)],
            "data": data,
            "training": training,
            "test": self.score_test,
        }
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def name(self) -> str:
        """The tags in one word, for people and for files."""
        return ".".join(str(tag).replace(" ", "-").replace("/", "-") for tag in self.tags.values()) or "cell"

    @property
    def command(self) -> str:
        """What to type to run it alone."""
        changes = [word for override in self.overrides for word in ("--set", override)]
        return shlex.join(["foreword", "train", self.recipe, *changes])


def changes(values: Mapping[str, Any]) -> tuple[str, ...]:
    """A table of ``"section.key" = value`` as overrides."""
    return tuple(written_override(key, value) for key, value in values.items())


def merged(*overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides laid over one another: of those of one key the last counts."""
    latest = {one.partition("=")[0].strip(): one for several in overrides for one in several}
    return tuple(latest.values())


def _chosen(settings: BaseModel) -> dict[str, Any]:
    """What differs from the defaults that settings came with."""
    said = settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    for name, first in getattr(settings, "first_defaults", {}).items():
        said.pop(name, None)
        if (value := getattr(settings, name)) != first:
            said[name] = value
    return said


def _of_files(*files: str | None) -> list[list[str]]:
    """Name and digest of each file; what is no file on this machine (on a hub, or missing) by its name alone."""
    return [_digests(file, _stamp(file)) for file in files if file is not None]


def _stamp(file: str) -> tuple[int, int] | None:
    path = Path(file)
    return (path.stat().st_mtime_ns, path.stat().st_size) if path.is_file() else None


@cache
def _digests(file: str, stamp: tuple[int, int] | None) -> list[str]:
    """``stamp`` tells versions of one file apart, so that it is read once."""
    del stamp
    found = Source(files=(file,)).digests() if Path(file).exists() else {file: ""}
    return [part for pair in found.items() for part in pair]


class Evaluation(BaseModel):
    """One evaluation while training: the main metric on the data that weights are selected on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    seconds: float
    train_loss: float
    value: float


class CellResult(BaseModel):
    """What a finished run came to."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    holdout: MetricsEntry
    """Scores of the best weights on the data they were selected on."""
    test: MetricsEntry | None = None
    """Scores of the same weights on data nothing was selected on, where there are some."""
    parameters: ParametersEntry
    bytes: int
    """Size of what is kept to answer with: prompt, head, modules, and weights of the backbone if they were trained."""
    steps: int
    best_step: int
    seconds: float
    """Training and the evaluations between, over all sittings."""
    seconds_per_step: float
    """Of the steps alone, in the last sitting."""
    wall_seconds: float
    """The last sitting, with loading, reading and testing."""
    peak_memory: int
    """Most bytes by which training rose above what stood before it (backbone, data): of the device, or of the
    process where there is none. 0 where the system does not tell."""
    side_by_side: int = 1
    """Cells that were trained at once, this one among them; seconds and memory are then those of all together."""
    threads: int
    device: str
    curve: tuple[Evaluation, ...]
    data: dict[str, DataEntry]
    notes: tuple[str, ...]
    recipe: dict[str, Any]
    versions: dict[str, str]

    @property
    def main(self) -> str:
        """Name of the main metric."""
        return self.holdout.main

    @property
    def selected_by(self) -> float:
        """The main metric where weights and settings are chosen."""
        return self.holdout.values[self.main]

    @property
    def value(self) -> float:
        """The main metric on test data, or where there are none, where it was selected."""
        return (self.test or self.holdout).values[self.main]


class CellRecord(BaseModel):
    """One file of a study: a cell that is over, for better or worse."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    format: Literal["foreword-cell"] = "foreword-cell"
    key: str
    tags: dict[str, str | int]
    command: str
    ended: float
    """Seconds since 1970."""
    result: CellResult | None = None
    error: str | None = None
    """Why there is no result."""
