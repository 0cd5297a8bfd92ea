"""Recipes: one TOML file per experiment, checked before anything runs."""

from foreword.recipes.load import load_any_recipe, load_recipe, packaged_folders, packaged_in, packaged_recipes
from foreword.recipes.multi_task import MultiTaskRecipe
from foreword.recipes.run import run_multi_task_recipe, run_recipe
from foreword.recipes.schema import Recipe

__all__ = [
    "MultiTaskRecipe",
    "Recipe",
    "load_any_recipe",
    "load_recipe",
    "packaged_folders",
    "packaged_in",
    "packaged_recipes",
    "run_multi_task_recipe",
    "run_recipe",
]
