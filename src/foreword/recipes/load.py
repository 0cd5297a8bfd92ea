"""From a TOML file, or the name of a packaged recipe, and overrides, to a checked `Recipe`."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from foreword.data.readers import HUB_PREFIX
from foreword.errors import RecipeError
from foreword.recipes.multi_task import MultiTaskRecipe, parse_multi_task_recipe
from foreword.recipes.schema import Recipe, parse_recipe, parse_task
from foreword.recipes.templates.settings import toml_value
from foreword.tasks import Task
from foreword.training.description import PATHS

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


@cache
def packaged_recipes() -> dict[str, str]:
    """Name of every recipe in the package -> its TOML text; one in a folder is called ``folder/name``."""
    top = files("foreword.recipes").joinpath("packaged")
    folders = {"": top} | {f"{entry.name}/": entry for entry in top.iterdir() if entry.is_dir()}
    found = {
        f"{folder}{entry.name.removesuffix('.toml')}": entry
        for folder, entries in folders.items()
        for entry in entries.iterdir()
        if entry.name.endswith(".toml")
    }
    return {name: found[name].read_text("utf-8") for name in sorted(found)}


def packaged_folders() -> list[str]:
    """Names of the folders that packaged recipes stand in."""
    return sorted({name.partition("/")[0] for name in packaged_recipes() if "/" in name})


def packaged_in(folder: str) -> dict[str, str]:
    """Those packaged recipes that stand in one folder; in none where it is empty."""
    return {name: text for name, text in packaged_recipes().items() if name.rpartition("/")[0] == folder}


def load_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe of one task.

    Args:
        recipe: a TOML file, or the name of a packaged recipe.
        overrides: ``section.key=value`` each; values as TOML has them, bare words as text.

    Raises:
        RecipeError: all mistakes at once.
    """
    found = load_any_recipe(recipe, overrides)
    if isinstance(found, MultiTaskRecipe):
        raise RecipeError("a recipe of several tasks, where one of a single task is expected", recipe)
    return found


def load_any_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe | MultiTaskRecipe:
    """Read and check a recipe of one task, or of several: those have ``[tasks.NAME]`` tables.

    Raises:
        RecipeError: all mistakes at once.
    """
    path, source, mistakes = Path(recipe), str(recipe), list[str]()
    name = source if _is_packaged(path) else path.stem
    raw, folder = read_tables(recipe, overrides), _home(path)
    _resolve_paths(raw, folder, mistakes)
    several = "tasks" in raw
    if several and isinstance(raw["tasks"], dict):
        entries = raw["tasks"].items()
        raw["tasks"] = {task: _gathered(entry, folder, f"tasks.{task}", mistakes) for task, entry in entries}
    if mistakes:
        raise RecipeError(mistakes, source)
    return (parse_multi_task_recipe if several else parse_recipe)(raw, name=name, source=source)


def read_tables(recipe: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a recipe with those of its base and overrides, as they are written: neither checked nor resolved.

    Raises:
        RecipeError: there is no such recipe, it is not TOML, or an override names no place in it.
    """
    path = Path(recipe)
    if _is_packaged(path):
        packaged = packaged_recipes()
        name = recipe.as_posix() if isinstance(recipe, Path) else recipe
        if name not in packaged:
            raise RecipeError(f"no such file, nor a packaged recipe of that name (there are: {_listed(name)})", recipe)
        text = packaged[name]
    else:
        text = read_text(path)
    raw = parse_toml(text, recipe)
    if "base" in raw:
        raw = _on_base(raw, str(recipe))
    # Another type covers the whole table, so it goes before what is set in that table.
    for override in sorted(overrides, key=lambda one: not one.partition("=")[0].strip().endswith(".type")):
        _apply(raw, override)
    return raw


def parse_toml(text: str, source: str | Path) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        RecipeError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # too many digits or brackets are no TOMLDecodeError
        raise RecipeError(f"not valid TOML: {error}", source) from error


def written_override(key: str, value: Any) -> str:
    """``key=value`` as `load_recipe` reads it and `foreword train --set` takes it."""
    bare = isinstance(value, str) and value == value.strip() and _value(value) == value
    return f"{key}={value if bare else toml_value(value)}"


def _is_packaged(path: Path) -> bool:
    return not path.is_file() and path.suffix != ".toml"


def _home(path: Path) -> Path:
    """The folder that a recipe's paths start from."""
    return Path() if _is_packaged(path) else path.parent


def _gathered(entry: Any, folder: Path, where: str, mistakes: list[str]) -> Any:
    """One task of several: what its entry says, laid over task and data of the recipe that it names."""
    if not isinstance(entry, dict):
        return entry  # told of where tables are checked
    _resolve_files(entry, folder, f"{where}.", mistakes)
    if "recipe" not in entry:
        return entry
    own = {key: value for key, value in entry.items() if key != "recipe"}
    try:
        below, home = _named(entry["recipe"], folder)
    except RecipeError as error:
        mistakes += [f"{where}.recipe: {mistake}" for mistake in error.mistakes]
        return own
    data = own.get("data", {})
    if isinstance(below.get("data"), dict) and isinstance(data, dict):  # what is covered need not be there
        below["data"] = {key: value for key, value in below["data"].items() if key not in data}
    _resolve_files(below, home, f"{where}.", mistakes)
    return _merged(below, own)


def _named(recipe: Any, folder: Path) -> tuple[dict[str, Any], Path]:
    """Task and data of the recipe that an entry names, and the folder its paths start from."""
    if not isinstance(recipe, str):
        raise RecipeError("expected the name of a recipe, or a file")
    path = Path(recipe) if _is_packaged(Path(recipe)) else folder / recipe
    raw = read_tables(path)
    if "tasks" in raw:
        raise RecipeError(f"'{recipe}' has several tasks itself; name recipes of one task")
    return {key: raw[key] for key in ("task", "data") if key in raw}, _home(path)


def load_task(task: str) -> Task[Any, Any]:
    """A task by its name, or from the ``[task]`` table of a TOML file, such as a recipe.

    Raises:
        RecipeError: there is no such task or file, or the table has mistakes.
    """
    path = Path(task)
    if path.suffix != ".toml" and not path.is_file():
        return parse_task({"type": task})
    raw = parse_toml(read_text(path), path).get("task")
    if not isinstance(raw, dict):
        raise RecipeError("task: expected a table, as in [task]", path)
    return parse_task(raw, str(path))


def _on_base(raw: dict[str, Any], source: str) -> dict[str, Any]:
    """Fill in what a recipe leaves to the packaged ones that are its ``base``, but for the name.

    Of several, each is laid over those before it.
    """
    base, packaged, below = raw.pop("base"), packaged_recipes(), dict[str, Any]()
    for name in base if isinstance(base, list) else [base]:
        if not isinstance(name, str) or name not in packaged:
            raise RecipeError(f"base: no packaged recipe '{name}' (there are: {_listed(name)})", source)
        tables = tomllib.loads(packaged[name])
        below = _merged(below, _on_base(tables, name) if "base" in tables else tables)
    below.pop("name", None)
    return _merged(below, raw)


def _listed(wanted: Any) -> str:
    """Which packaged recipes stand where someone looked for one; folders are named where no folder was."""
    beside = packaged_in(wanted.rpartition("/")[0]) if isinstance(wanted, str) and "/" in wanted else {}
    return ", ".join(beside or [*packaged_in(""), *(f"{folder}/..." for folder in packaged_folders())])


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` laid over ``below``, table by table. A table of another ``type`` covers the one below whole."""
    merged = dict(below)
    for key, value in above.items():
        table = below.get(key)
        if isinstance(table, dict) and isinstance(value, dict) and value.get("type") in (None, table.get("type")):
            merged[key] = _merged(table, value)
        else:
            merged[key] = value
    return merged


def read_text(path: Path) -> str:
    """The text of a file that a person wrote.

    Raises:
        RecipeError: it is not there, or cannot be read.
    """
    try:
        return path.read_text("utf-8-sig")  # some editors on Windows put a mark in front
    except FileNotFoundError as error:
        raise RecipeError("no such file", path) from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"not UTF-8 (byte {error.start})", path) from error
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror})", path) from error


def _apply(raw: dict[str, Any], override: str) -> None:
    """Put one ``a.b.c=value`` into the nested tables."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < 2 or not all(keys):
        raise RecipeError(f"--set {override}: expected section.key=value, such as training.epochs=3")
    table = raw
    for key in keys[:-1]:
        inner = table.setdefault(key, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"--set {override}: '{key}' is not a table")
        table = inner
    value = _value(text.strip())
    if keys[-1] == "type" and table.get("type", value) != value:
        table.clear()  # its other settings are those of another type
    table[keys[-1]] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _resolve_paths(raw: dict[str, Any], folder: Path, mistakes: list[str]) -> None:
    """Make files and the artifact to start from relative to the recipe, and fill in environment variables."""
    backbone = raw.get("backbone")
    if isinstance(backbone, dict) and isinstance(name := backbone.get("name"), str) and name.startswith((".", "~")):
        backbone["name"] = str(Path(_below(name, folder, "backbone.name", mistakes)).absolute())  # no hub name
    _resolve_files(raw, folder, "", mistakes)


def _resolve_files(raw: dict[str, Any], folder: Path, where: str, mistakes: list[str]) -> None:
    """The same for files alone; ``where`` stands before the name of the table in messages."""
    for section, key in (*(("data", side) for side in ("train", "dev", "test")), *PATHS):
        table = raw.get(section)
        value = table.get(key) if isinstance(table, dict) else None
        if isinstance(table, dict) and isinstance(value, str):
            table[key] = _path(value, folder, f"{where}{section}.{key}", mistakes)
        elif isinstance(table, dict) and isinstance(value, list):
            table[key] = [
                _path(item, folder, f"{where}{section}.{key}", mistakes) if isinstance(item, str) else item
                for item in value
            ]


def _path(value: str, folder: Path, where: str, mistakes: list[str]) -> str:
    mistakes.extend(
        f"{where}: the environment variable {name} is not set; it should name a folder of data"
        for name in _names(value)
        if name not in os.environ
    )
    expanded = _VARIABLE.sub(lambda m: os.environ.get(m[1] or m[2], m[0]), value)
    return expanded if expanded.startswith(HUB_PREFIX) else _below(expanded, folder, where, mistakes)


def _below(value: str, folder: Path, where: str, mistakes: list[str]) -> str:
    try:
        return str(folder / Path(value).expanduser())
    except RuntimeError:
        mistakes.append(f"{where}: there is no home folder for '{value}'")
        return value


def _names(value: str) -> Iterator[str]:
    return (match[1] or match[2] for match in _VARIABLE.finditer(value))
