"""What the runs of one process have in common, so that a study does not load and encode it again for each of them."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TypeVar

from foreword.backbones import Backbone, device_named, load_backbone
from foreword.inference.encoding import room_for_text
from foreword.recipes.multi_task import MultiTaskRecipe
from foreword.recipes.schema import Recipe, TaskEntry
from foreword.training.prepared import Prepared, prepare

T = TypeVar("T")

_KEPT = 2
"""Encoded data that are kept: a whole set, and the smaller one that is searched on."""


class Workbench:
    """The last backbone that no run has tuned, and the last encoded data. A run on them is what it would be alone."""

    def __init__(self) -> None:
        self._backbones: OrderedDict[str, Backbone] = OrderedDict()
        self._prepared: OrderedDict[str, Prepared] = OrderedDict()

    def backbone(self, recipe: Recipe | MultiTaskRecipe) -> Backbone:
        """The backbone of a recipe, as it was published. A method that tunes it gets one of its own."""
        table = recipe.backbone
        key = table.model_dump_json()
        if key in self._backbones and not recipe.method.tunes_backbone:
            return self._backbones[key]
        loaded = load_backbone(
            table.name,
            revision=table.revision,
            dtype=table.torch_dtype,
            quantization=table.quantization,
            # Training moves a backbone to its device, but rounded weights are to be loaded there.
            device=device_named(None, table.quantization) if table.quantization else "cpu",
            language_model=table.language_model,
        )
        if not recipe.method.tunes_backbone:
            _keep(self._backbones, key, loaded, 1)
        return loaded

    def prepare(self, recipe: Recipe, backbone: Backbone) -> Prepared:
        """The data of a recipe, read, checked and encoded; done once for all recipes that encode it alike.

        Raises:
            DataError: naming file, line and field.
        """
        tables, reserved = recipe.to_dict(), recipe.method.positions_taken
        room = room_for_text(backbone, recipe.training.max_length, reserved)
        start = [tables["training"].get(name) for name in ("start_from", "start_head")]
        key = json.dumps([tables["backbone"], tables["task"], tables["data"], room, start], sort_keys=True)
        if key not in self._prepared:
            _keep(self._prepared, key, prepare_entry(TaskEntry(recipe.task, recipe.data), recipe, backbone), _KEPT)
        self._prepared.move_to_end(key)
        return self._prepared[key]


def prepare_entry(entry: TaskEntry, recipe: Recipe | MultiTaskRecipe, backbone: Backbone) -> Prepared:
    """The data of one task, read, checked and encoded for the run of a recipe.

    Raises:
        DataError: naming file, line and field.
    """
    return prepare(
        entry.task,
        entry.data.source("train"),
        entry.data.source("dev"),
        backbone,
        recipe.training,
        reserved=recipe.method.positions_taken,
        test=entry.data.source("test") if entry.data.has_test else None,
    )


def _keep(kept: OrderedDict[str, T], key: str, value: T, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)
