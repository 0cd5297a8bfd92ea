"""A recipe of several tasks that share a prompt: a table ``[tasks.NAME]`` for each, and ``[mixing]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foreword.errors import RecipeError
from foreword.methods import METHODS, Method
from foreword.recipes.checking import check, check_typed, sections_of, table_of, unknown
from foreword.recipes.schema import BackboneTable, DataTable, TaskEntry, check_vocabulary, resolved
from foreword.tasks import TASKS
from foreword.training.mixing import Mixing
from foreword.training.settings import TrainingSettings

SECTIONS = ("name", "backbone", "tasks", "method", "training", "mixing")
ENTRY = ("recipe", "task", "data")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class MultiTaskRecipe:
    """A checked recipe of several tasks.

    Attributes:
        tasks: name -> task and data, in the order of the recipe.
        mixing: how they share the steps.
    """

    name: str
    backbone: BackboneTable
    tasks: Mapping[str, TaskEntry]
    method: Method
    training: TrainingSettings
    mixing: Mixing

    def to_dict(self) -> dict[str, Any]:
        """The resolved recipe, every default written out, as plain values without None.

        What other recipes say of a task stands in it, and files are absolute: it means the same from every folder.
        """
        tasks = {"tasks": {name: entry.to_dict() for name, entry in self.tasks.items()}}
        tables = resolved(self.backbone, tasks, self.method, self.training)
        return {"name": self.name, **tables, "mixing": self.mixing.model_dump(mode="json", exclude_none=True)}


def parse_multi_task_recipe(raw: Mapping[str, Any], *, name: str, source: str | None = None) -> MultiTaskRecipe:
    """Check a recipe of several tasks and report every mistake at once.

    Args:
        raw: the tables, with what each task's own recipe says already in its entry.
        name: what to call the run if the recipe does not say.
        source: the file, for messages.

    Raises:
        RecipeError: with one sentence per mistake.
    """
    mistakes: list[str] = []
    tables = sections_of(raw, SECTIONS, mistakes)
    backbone, tasks = check(BackboneTable, tables["backbone"], "backbone", mistakes), tables["tasks"]
    parts = {
        "backbone": backbone,
        "tasks": {name: _check_entry(name, tasks, backbone, mistakes) for name in tasks},
        "method": check_typed(METHODS, tables["method"], "method", mistakes, default="ptuning-v2"),
        "training": check(TrainingSettings, tables["training"], "training", mistakes),
        "mixing": check(Mixing, tables["mixing"], "mixing", mistakes),
    }
    if raw.get("tasks") == {}:
        mistakes.append("tasks: is missing; give each task a table, as in [tasks.NAME]")
    if mistakes:
        raise RecipeError(mistakes, source)
    return MultiTaskRecipe(name=raw.get("name", name), **parts)  # type: ignore[arg-type]  # no mistakes: none is None


def _check_entry(
    name: str, tasks: Mapping[str, Any], backbone: BackboneTable | None, mistakes: list[str]
) -> TaskEntry | None:
    """One table ``[tasks.NAME]``, whose name becomes that of a folder."""
    where = f"tasks.{name}"
    if not _NAME.fullmatch(name):
        mistakes.append(f"{where}: a task's name has letters, digits, '.', '-' and '_' only; it names a folder")
    entry = table_of(tasks, name, where, mistakes)
    mistakes += [unknown(key, where, ENTRY) for key in entry if key not in ENTRY]
    task_table, data_table = (table_of(entry, key, f"{where}.{key}", mistakes) for key in ("task", "data"))
    task = check_typed(TASKS, task_table, f"{where}.task", mistakes)
    data = check(DataTable, data_table, f"{where}.data", mistakes)
    check_vocabulary([task], backbone, mistakes)
    return None if task is None or data is None else TaskEntry(task, data)
