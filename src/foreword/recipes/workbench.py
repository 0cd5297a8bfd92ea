"""Placeholder until merged."""

from __future__ import annotations

from foreword.backbones import Backbone, load_backbone
from foreword.recipes.schema import Recipe
from foreword.training.run import Prepared, prepare


class Workbench:
    """x."""

    def __init__(self) -> None:
        self._b: dict[str, Backbone] = {}

    def backbone(self, recipe: Recipe) -> Backbone:
        """x."""
        table = recipe.backbone
        key = table.model_dump_json()
        if key in self._b and not recipe.method.tunes_backbone:
            return self._b[key]
        loaded = load_backbone(
            table.name,
            revision=table.revision,
            dtype=table.torch_dtype,
            quantization=table.quantization,
            language_model=table.language_model,
        )
        if not recipe.method.tunes_backbone:
            self._b[key] = loaded
        return loaded

    def prepare(self, recipe: Recipe, backbone: Backbone) -> Prepared:
        """x."""
        return prepare(
            recipe.task,
            recipe.data.source("train"),
            recipe.data.source("dev"),
            backbone,
            recipe.training,
            reserved=recipe.method.positions_taken,
            test=recipe.data.source("test") if recipe.data.test else None,
        )
