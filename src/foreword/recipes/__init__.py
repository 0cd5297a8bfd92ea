"""Recipes: one TOML file per experiment, checked before anything runs."""

from foreword.recipes.load import load_recipe, packaged_recipes
from foreword.recipes.run import run_recipe
from foreword.recipes.schema import Recipe

__all__ = ["Recipe", "load_recipe", "packaged_recipes", "run_recipe"]
