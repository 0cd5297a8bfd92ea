"""Which data a search may see: a part of the training examples to select on, and dev only in the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from foreword.recipes.schema import DataTable, Recipe

HOLDOUT = 0.15
"""Share of the training examples that is selected on where the recipe does not say."""


def searched(recipe: Recipe, holdout: float | None = None) -> Recipe:
    """The recipe as a search runs it: selected on a part of its training data, without its dev and test files.

    A part of the training data that it puts aside for tests stays aside.

    Args:
        holdout: share of the training examples to put aside; the recipe's own, or `HOLDOUT`, if None.
    """
    changes = {"dev": (), "dev_sample": None, "test": (), "holdout": holdout or recipe.data.holdout or HOLDOUT}
    return _with_data(recipe, changes)


def scored(recipe: Recipe, original: Recipe) -> Recipe:
    """A searched recipe with what the original holds back for the end: its test data, or else its dev files."""
    data = original.data
    if data.test_holdout is not None:
        return recipe
    side = "test" if data.test else "dev"
    names = ("split", "sample")
    own = {f"test_{name}": getattr(data, f"{side}_{name}") for name in names}
    return _with_data(recipe, {"test": getattr(data, side), **own})


def _with_data(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    return replace(recipe, data=DataTable.model_validate({**recipe.data.model_dump(), **changes}))
