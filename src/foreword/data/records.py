"""A record: one labelled or unlabelled item as it stands in a file, before any task looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foreword.data.nodes import Node
from foreword.errors import DataError

_NOTHING = object()


@dataclass(frozen=True, slots=True)
class Record:
    """Fields of one item, and where they came from.

    Where no field has a dotted name, such as ``target.start``, it names a field of an object in a field.

    Attributes:
        fields: column or key name -> value (text for CSV and TSV; any JSON value otherwise).
        file: path of the file as the user named it.
        line: 1-based line the item starts on, or its 1-based number where lines mean nothing.

    Raises:
        DataError: ``fields`` is no mapping, as may happen with items a program hands in.
    """

    fields: Mapping[str, Any]
    file: str
    line: int

    def __post_init__(self) -> None:
        if not isinstance(self.fields, Mapping):
            raise self.error(f"expected a dictionary of fields, found {type(self.fields).__name__} {self.fields!r:.60}")

    def error(self, message: str, *, field: str | None = None, hint: str | None = None) -> DataError:
        """A `DataError` that points at this record."""
        return DataError(message, file=self.file, line=self.line, field=field, hint=hint)

    def get(self, field: str, default: Any = None) -> Any:
        """The value of ``field``, or ``default`` if the record has no such field."""
        if field in self.fields:
            return self.fields[field]
        value: Any = self.fields
        for step in field.split("."):
            if not isinstance(value, Mapping) or step not in value:
                return default
            value = value[step]
        return value

    def has(self, field: str) -> bool:
        """Whether there is such a field."""
        return self.get(field, _NOTHING) is not _NOTHING

    def value(self, field: str) -> Any:
        """The value of ``field``.

        Raises:
            DataError: the record has no such field; the message lists those it has.
        """
        found = self.get(field, _NOTHING)
        if found is _NOTHING:
            have = ", ".join(sorted(map(str, self.fields))) or "none"
            raise self.error(
                f"missing (this record has: {have})",
                field=field,
                hint="Name your own columns in the recipe, under [task.columns]",
            )
        return found

    def node(self, field: str) -> Node:
        """The value of ``field`` as one that can be looked into.

        Raises:
            DataError: the record has no such field.
        """
        return Node(self.value(field), field, self.file, self.line)

    def text(self, field: str) -> str:
        """The value of ``field``, which must be a text that is not blank.

        Raises:
            DataError: the field is missing, is not a text, or is blank.
        """
        value = self.value(field)
        if not isinstance(value, str):
            raise self.error(f"expected a text, found {type(value).__name__} {value!r:.60}", field=field)
        if not value.strip():
            raise self.error("is empty", field=field)
        return value
