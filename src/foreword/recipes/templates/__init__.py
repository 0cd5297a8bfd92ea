"""Recipes written for the user's own files, out of the settings classes themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from pydantic import BaseModel

from foreword.methods import METHODS
from foreword.recipes.schema import BackboneTable, DataTable, Recipe
from foreword.recipes.templates.settings import Setting, list_settings, toml_value
from foreword.tasks import TASKS, WritingTask
from foreword.training.settings import TrainingSettings

METHOD = "ptuning-v2"
OTHER_METHODS: Mapping[str, str] = {"qa": "combined"}
"""For tasks that are better off with another one."""
ACTIVE = (
    "backbone.name",
    "task.columns.",
    "data.train",
    "data.dev",
    "method.prompt_length",
    "training.epochs",
    "training.batch_size",
    "training.learning_rate",
)
"""What most users change first; a dot at the end means all fields below."""
WRITER, LANGUAGE_MODEL = "gpt2", "bert-base-cased"
"""The backbones of tasks that write, and of others that need a language model."""
WORDS = {"training.learning_rate": 1e-1, "training.backbone_dropout": 0.1}
WANTED: Mapping[str, Mapping[str, Any]] = {
    "ner": WORDS,
    "srl": WORDS,
    "qa": {
        "method.parts": [
            {"type": METHOD, "prompt_length": 20, "init": "vocabulary", "gate": True},
            {"type": "ssf"},
        ],
        "method.learning_rates": [3e-2, 1e-2],
        "training.head_learning_rate": 5e-3,
    },
}
"""What a task is better off with than with the defaults (docs/studies). Labels of words are learned faster, and with
dropout, than texts are. Answers are found by a model that still reads its text as it did, so a prompt begins as real
tokens and with no share of the attention; and they want the words of the text to attend to one another anew, which a
scale and shift can bring about and a prompt cannot."""
SUFFIXES = {"ner": ".conll"}
"""Of the example data, per task; .jsonl where none is given."""


def write_recipe(task: str, *, name: str, train: str | None = None, dev: str | None = None) -> str:
    """The text of a commented recipe: the important fields set, all others shown with their defaults.

    Args:
        task: a key of `TASKS`.
        name: what to call the run.
        train, dev: data files, relative to the recipe; made-up names if None.
    """
    suffix, method = SUFFIXES.get(task, ".jsonl"), OTHER_METHODS.get(task, METHOD)
    values = {
        "data.train": toml_value(train or f"train{suffix}"),
        "data.dev": toml_value(dev or f"dev{suffix}"),
        **{path: toml_value(value) for path, value in WANTED.get(task, {}).items()},
    }
    if method == METHOD:
        values.setdefault("training.learning_rate", toml_value(METHODS[METHOD]().default_learning_rate))
    if TASKS[task]().needs_language_model:
        speaker = WRITER if issubclass(TASKS[task], WritingTask) else LANGUAGE_MODEL
        values |= {"backbone.name": toml_value(speaker), "backbone.language_model": toml_value(True)}
    lines = [
        f"# {task}: {TASKS[task].summary}.",
        "# Lines such as '#key = value' show further settings and their defaults; take the '#' away to set one.",
        "",
        f"name = {toml_value(name)}",
        *_section("backbone", BackboneTable, values, _is_active),
        *_section("task", TASKS[task], values, _is_active, kind=task),
        "",
        *(f"# {line}".rstrip() for line in data_help(task)),
        *_section("data", DataTable, values, _is_active),
        *_section("method", METHODS[method], values, _is_active, kind=method),
        *_section("training", TrainingSettings, values, _is_active),
    ]
    return "\n".join(lines) + "\n"


def write_out(recipe: Recipe, *, remarks: Sequence[str] = (), chosen: Collection[str] = ()) -> str:
    """The text of a recipe that is there: what differs from the defaults is set, all else shown and explained.

    Args:
        recipe: checked; its files are written as seen from anywhere.
        remarks: lines to begin with.
        chosen: dotted paths of settings to set even at their defaults.
    """
    tables = recipe.to_dict()
    models: dict[str, tuple[type[BaseModel], str | None]] = {
        "backbone": (BackboneTable, None),
        "task": (type(recipe.task), recipe.task.name),
        "data": (DataTable, None),
        "method": (type(recipe.method), recipe.method.name),
        "training": (TrainingSettings, None),
    }
    lines = [*(f"# {remark}".rstrip() for remark in remarks), "", f"name = {toml_value(recipe.name)}"]
    for section, (model, kind) in models.items():
        settings = {one.name: one for one in list_settings(model, f"{section}.")}
        values = {path: toml_value(value) for path in settings if (value := value_at(tables, path)) is not None}
        values = {path: value for path, value in values.items() if path in chosen or value != settings[path].default}
        lines += _section(section, model, values, values.__contains__, kind=kind)
    return "\n".join(lines) + "\n"


def value_at(tables: Mapping[str, Any], path: str) -> Any:
    """What stands at a dotted path of nested tables; None if nothing does."""
    found: Any = tables
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def data_help(task: str) -> list[str]:
    """How the files of a task must look: words, then two lines of an example."""
    return files(__name__).joinpath(f"{task}.txt").read_text("utf-8").splitlines()


def _section(
    section: str,
    model: type[BaseModel],
    values: dict[str, str],
    is_active: Callable[[str], bool],
    kind: str | None = None,
) -> Iterator[str]:
    """A table: what is set comes first, and then the rest, commented out."""
    yield from ("", f"[{section}]")
    if kind is not None:
        yield f"type = {toml_value(kind)}"
    settings = list(list_settings(model))
    active = [s for s in settings if is_active(f"{section}.{s.name}") or f"{section}.{s.name}" in values]
    for setting in active:
        value = values.get(f"{section}.{setting.name}", setting.default)
        yield from _lines(setting, value)
    for setting in settings:
        if setting not in active:
            yield from _lines(setting, setting.default, "#")


def _is_active(path: str) -> bool:
    return any(path.startswith(known) if known.endswith(".") else path == known for known in ACTIVE)


def _lines(setting: Setting, value: str | None, mark: str = "") -> Iterator[str]:
    """The field's meaning and its value; a field without one is shown by its type, behind a '#'."""
    yield f"# {setting.description}"
    yield f"{mark}{setting.name} = {value}" if value is not None else f"#{setting.name} = <{setting.type}>"
