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

METHODS_EXAMPLES = examples(
    "foreword methods",
    "foreword methods ptuning-v2",
    "foreword methods --backbone bert-large-cased --prompt-length 20",
)
TASKS_EXAMPLES = examples("foreword tasks", "foreword tasks qa")
RECIPES_EXAMPLES = examples("foreword recipes", "foreword recipes NAME > mine.toml")

T = TypeVar("T")


def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show the settings of this one.")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Count what each method trains and stores on this backbone (needs no weights)."
        ),
    ] = None,
    prompt_length: Annotated[
        int | None, typer.Option(min=1, metavar="P", help="With --backbone: prompt length, instead of the defaults.")
    ] = None,
    labels: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --backbone: count a head for N labels too.")
    ] = None,
) -> None:
    """List the methods, the settings of one, or what each would cost on a backbone."""
    from foreword.methods import METHODS

    if backbone is not None:
        _print_counts(backbone, name, prompt_length, labels)
    elif prompt_length is not None or labels is not None:
        raise RecipeError("--prompt-length and --labels count parameters: say on which --backbone")
    elif name is None:
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


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one, or list this folder.")] = None,
) -> None:
    """List the recipes that come with Foreword, or those of a folder, or print one."""
    from foreword.recipes import packaged_folders, packaged_in, packaged_recipes

    folders = packaged_folders()
    folder = (name or "").rstrip("/")
    if name in packaged_recipes():
        typer.echo(packaged_recipes()[name], nl=False)
    elif name is not None and folder not in folders:
        beside = packaged_in(folder.rpartition("/")[0]) if "/" in folder else {}
        pick(beside or dict.fromkeys([*packaged_in(""), *folders]), name, "packaged recipe")
    else:
        print_table((one, text.partition("\n")[0].strip("# ")) for one, text in packaged_in(folder).items())
    if name is None:
        rows = ((f"{one}/", f"{len(packaged_in(one))} recipes, listed by: foreword recipes {one}") for one in folders)
        print_table(rows)


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


def _print_counts(backbone_name: str, only: str | None, prompt_length: int | None, labels: int | None) -> None:
    """What every method trains and stores on a backbone; all but the backbone is counted without numbers."""
    from foreword.backbones import plan_backbone
    from foreword.methods import METHODS
    from foreword.studies.parameters import Count, count_all, head_parameters, label_names

    if only is not None:
        pick(METHODS, only, "method")
    planned = plan_backbone(backbone_name)
    counts = count_all(planned, prompt_length, label_names(labels or 0))
    chosen = {name: count for name, count in counts.items() if only in (None, name.partition(" (")[0])}
    head = head_parameters(planned, labels) if labels else 0
    typer.echo(f"{backbone_name}: {planned.parameter_count:,} parameters, none of them loaded\n")
    rows = [
        (
            name,
            f"{count.trained + head:,}",
            f"{count.kept + head:,}",
            f"{count.stored_bytes + 4 * head:,}",
            f"{(count.trained + head) / count.backbone:.4%}",
        )
        for name, count in chosen.items()
        if isinstance(count, Count)
    ]
    print_table(rows, ("method", "trained", "kept", "bytes", "of the backbone"))
    counted = f"the head of a classification task with {labels} labels ({head:,})" if labels else "no task's head"
    typer.echo(f"\nKept: after folding. Bytes: float32, in the artifact. Counted with {counted}.")
    for name, error in chosen.items():
        if not isinstance(error, Count):
            typer.echo(f"{name}: not on this backbone ({error})")


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
