"""Settings of methods inside the settings of another."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import SerializationInfo, ValidationError

from foreword.methods.base import Method

NESTS = ("combined", "mixture")
"""Names of the methods that have others inside."""


def read_method(table: Mapping[str, type[Method]], value: Any, where: str = "", *, without: Collection[str]) -> Any:
    """Settings out of a table with a ``type``, checked by the class which that names.

    Args:
        table: name -> method.
        value: what a recipe or an artifact holds. What is no table is given back, for pydantic to judge.
        where: what errors begin with.
        without: names that cannot stand here.

    Raises:
        ValueError: the type is unknown, or the settings are wrong.
    """
    if not isinstance(value, Mapping):
        return value
    kind, names = value.get("type"), [name for name in table if name not in without]
    if kind not in names:
        raise ValueError(f"{where}type {kind!r} is not one of {', '.join(names)}")
    method = table[kind]
    try:
        return method.model_validate({name: setting for name, setting in value.items() if name != "type"})
    except ValidationError as error:
        raise ValueError(where + "; ".join(_mistake(method, one) for one in error.errors())) from error


def table_of(method: Method, info: SerializationInfo) -> dict[str, Any]:
    """Settings as a table with a ``type``; `read_method` is the way back."""
    return {"type": method.name, **method.model_dump(mode=info.mode, exclude_none=info.exclude_none)}


def _mistake(method: type[Method], error: Any) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown key; there are: {', '.join(method.model_fields) or 'none'}"
    text = error["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" if where else text
