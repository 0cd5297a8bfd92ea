"""`foreword methods`, `tasks`, `backbones` and `recipes`: what there is to choose from."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, TypeVar

import typer
from pydantic import BaseModel

from foreword.cli.printing import examples, print_table
from foreword.errors import RecipeError

METHODS_EXAMPLES = examples("foreword methods", "foreword methods ptuning-v2")
TASKS_EXAMPLES = examples("foreword tasks", "foreword tasks qa")
RECIPES_EXAMPLES = examples("foreword recipes", "foreword recipes NAME > mine.toml")

T = TypeVar("T")


def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show the settings of this one.")] = None,
) -> None:
    """List the methods, or the settings of one."""
    from foreword.methods import METHODS

    if name is None:
        print_table((method.name, method.summary) for method in METHODS.values())
    else:
        method = pick(METHODS, name, "method")
        _print_settings("method", name, method.summary, method)


def tasks(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show the settings of this one.")] = None,
) -> None:
    """List the tasks, or the settings of one and how its data must look."""
    from foreword.recipes.templates import data_help
    from foreword.tasks import TASKS

    if name is None:
        print_table((task.name, task.summary) for task in TASKS.values())
    else:
        task = pick(TASKS, name, "task")
        _print_settings("task", name, task.summary, task)
        typer.echo("\n".join(["", *data_help(name)]))


def backbones() -> None:
    """List the families of backbones that can be used."""
    from foreword.backbones import FAMILIES

    print_table((name, family.summary) for name, family in FAMILIES.items())


def recipes(name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one.")] = None) -> None:
    """List the recipes that come with Foreword, or print one."""
    from foreword.recipes import packaged_recipes

    packaged = packaged_recipes()
    if name is None:
        print_table((name, text.partition("\n")[0].strip("# ")) for name, text in packaged.items())
    else:
        typer.echo(pick(packaged, name, "packaged recipe"), nl=False)


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """The entry called ``name``.

    Raises:
        RecipeError: there is none; the message names those there are.
    """
    if name in table:
        return table[name]
    close = difflib.get_close_matches(name, table, n=1)
    guess = f". Did you mean '{close[0]}'?" if close else ""
    raise RecipeError(f"no {what} '{name}'; there are: {', '.join(table)}{guess}")


def _print_settings(section: str, name: str, summary: str, model: type[BaseModel]) -> None:
    """Every setting with its type, default and meaning."""
    from foreword.recipes.templates.settings import list_settings

    typer.echo(f'{name}: {summary}\n\n[{section}]\ntype = "{name}"')
    settings = list(list_settings(model))
    for setting in settings:
        default = "required" if setting.required else f"default {setting.default or 'left out'}"
        typer.echo(f"\n{setting.name}: {setting.type}; {default}\n    {setting.description}")
    if not settings:
        typer.echo("\nIt has no settings.")
