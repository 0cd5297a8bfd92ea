"""Tables of a recipe against the classes that know them: every mistake as a sentence with its dotted path."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

ModelT = TypeVar("ModelT", bound=BaseModel)


def sections_of(raw: Mapping[str, Any], sections: Sequence[str], mistakes: list[str]) -> dict[str, Mapping[str, Any]]:
    """The tables of a recipe; one that is left out is an empty one.

    Args:
        raw: as it came out of TOML.
        sections: keys it may have: 'name', and names of tables.
        mistakes: gets a sentence for every other key, and for what is not a table.
    """
    mistakes += [unknown(key, "", ("base", *sections)) for key in raw if key not in sections]
    tables = {section: table_of(raw, section, section, mistakes) for section in sections if section != "name"}
    if not isinstance(raw.get("name", ""), str):
        mistakes.append("name: expected a text")
    return tables


def table_of(raw: Mapping[str, Any], key: str, where: str, mistakes: list[str]) -> Mapping[str, Any]:
    """The table under a key, empty if there is none; ``where`` is its path for the sentence if it is something else."""
    table = raw.get(key, {})
    if isinstance(table, Mapping):
        return table
    mistakes.append(f"{where}: expected a table, as in [{where}]")
    return {}


def check_typed(
    table: Mapping[str, type[ModelT]],
    raw: Mapping[str, Any],
    section: str,
    mistakes: list[str],
    default: str | None = None,
) -> ModelT | None:
    """A section whose ``type`` picks the class that checks the rest."""
    kind = raw.get("type", default)
    if not isinstance(kind, str) or kind not in table:
        said = f"'{kind}' is not" if kind is not None else "is missing; expected"
        close = difflib.get_close_matches(str(kind), table, n=1)
        guess = f". Did you mean '{close[0]}'?" if close else ""
        mistakes.append(f"{section}.type: {said} one of {', '.join(table)}{guess}")
        return None
    return check(table[kind], {k: v for k, v in raw.items() if k != "type"}, section, mistakes)


def check(model: type[ModelT], raw: Mapping[str, Any], section: str, mistakes: list[str]) -> ModelT | None:
    """A section as the class that knows its keys has it; None, and a sentence per mistake, where it has some."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        mistakes.extend(mistakes_of(model, error, section))
        return None


def mistakes_of(model: type[BaseModel], error: ValidationError, section: str = "") -> list[str]:
    """What pydantic found, one sentence each with the dotted path.

    Args:
        model: what was checked.
        error: what came of it.
        section: path of the table that was checked.
    """
    return [_mistake(model, section, one) for one in error.errors()]


def _mistake(model: type[BaseModel], section: str, error: Any) -> str:
    path = [str(step) for step in error["loc"]]
    if error["type"] == "extra_forbidden":
        return unknown(path[-1], ".".join(filter(None, [section, *path[:-1]])), _fields(model, path[:-1]))
    where = ".".join(filter(None, [section, *path]))
    if error["type"] == "missing":
        return f"{where}: is missing"
    said = error["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" + ("" if said.startswith("is missing") else f" (found {error['input']!r:.60})")


def _fields(model: type[BaseModel], path: list[str]) -> tuple[str, ...]:
    """Names of the fields at ``path`` inside ``model``."""
    at: Any = model
    for step in path:
        fields = at.model_fields if isinstance(at, type) and issubclass(at, BaseModel) else {}
        at = fields[step].annotation if step in fields else (*get_args(at), None)[get_origin(at) is dict]
        if isinstance(at, type) and issubclass(at, BaseModel):
            model = at
    return tuple(model.model_fields)


def unknown(key: str, where: str, known: Iterable[str]) -> str:
    """That a key is none of the known ones, and which was meant.

    Args:
        key: as it was written.
        where: the section it stands in; empty at the top.
        known: keys there are.
    """
    known = tuple(known)
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(known) or 'none'}"
    return f"{f'{where}.' if where else ''}{key}: unknown key; {hint}"
