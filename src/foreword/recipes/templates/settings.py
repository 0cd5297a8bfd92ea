"""Settings classes read back as words: name, type, default and meaning of every field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", NoneType: ""}
_BOUNDS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a settings class.

    Attributes:
        name: dotted where it lies in an inner table, as in "columns.text".
        type: in words.
        default: as TOML writes it; None if the field is required or may be left out.
        required: whether there is no default at all.
        description: the field's docstring.
    """

    name: str
    type: str
    default: str | None
    required: bool
    description: str


def list_settings(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """Every field of ``model``, those of inner tables with dotted names."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner.model_fields:
            yield from list_settings(inner, f"{prefix}{name}.")
            continue
        default = field.get_default(call_default_factory=True, validated_data={})
        yield Setting(
            name=prefix + name,
            type=_field_type(field),
            default=None if field.is_required() or default is None else toml_value(default),
            required=field.is_required(),
            description=" ".join((field.description or "").split()),
        )


def toml_value(value: Any) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(str(key))} = {toml_value(inner)}' for key, inner in value.items())} }}"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()


def _key(text: str) -> str:
    return tomli_w.dumps({text: 0}).removesuffix(" = 0\n")


def _field_type(field: FieldInfo) -> str:
    return _type_words(field.annotation) + _bounds(field.metadata)


def _type_words(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_words(inner[0]) + _bounds(inner[1:])
    if origin is Literal:
        return " or ".join(f"'{choice}'" for choice in inner)
    if origin in (Union, UnionType):
        return " or ".join(filter(None, map(_type_words, inner)))
    if origin in (tuple, list):
        words = _type_words(inner[0])
        return f"list, each {words}" if " or " in words else f"list of {_several(words)}"
    if origin in (dict, Mapping):
        return f"table of {_several(_type_words(inner[1]))}"
    return _WORDS.get(annotation, "table" if hasattr(annotation, "model_fields") else str(annotation))


def _several(words: str) -> str:
    kind, bracket, bounds = words.partition(" (")
    return (kind.replace("table", "tables", 1) if kind.startswith("table of") else f"{kind}s") + bracket + bounds


def _bounds(metadata: Any) -> str:
    found = [
        f"{sign} {getattr(item, name)}" for item in metadata for name, sign in _BOUNDS.items() if hasattr(item, name)
    ]
    return f" ({', '.join(found)})" if found else ""
