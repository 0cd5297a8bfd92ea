"""Nested JSON, read step by step: every value knows where it stands and complains with its path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from foreword.errors import DataError

_NAMES = {str: "a text", int: "a whole number", bool: "a boolean", list: "a list", dict: "an object"}


def kind(value: object) -> str:
    """What JSON calls the type of ``value``, with its article, for messages."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number"}
    names |= {str: "a text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


class Node:
    """A JSON value that knows its path in the file.

    Args:
        value: as `json` gives it.
        path: such as ``qas[0].question``; empty at the top.
        file: where it was read.
        line: where in it, where lines mean something.
        hint: for messages about values without a line.
    """

    def __init__(self, value: Any, path: str, file: str, line: int | None = None, hint: str | None = None) -> None:
        self.value, self.path, self.file, self.line, self.hint = value, path, file, line, hint

    def numbered(self, line: int) -> Node:
        """The same value with another line."""
        return Node(self.value, self.path, self.file, line, self.hint)

    def has(self, key: str) -> bool:
        """Whether it is an object with a member of that name."""
        return isinstance(self.value, dict) and key in self.value

    def name(self, key: str, otherwise: str) -> str:
        """What an object is called under a key, whatever its type, or ``otherwise`` where it has no such key."""
        return str(self.get(key).value) if self.has(key) else otherwise

    def get(self, key: str) -> Node:
        """A member of an object.

        Raises:
            DataError: it is no object, or there is none of that name.
        """
        self.expect(dict)
        child = self._child(self.value.get(key), f"{self.path}.{key}" if self.path else key)
        if key not in self.value:
            raise child.error("missing")
        return child

    def each(self) -> Iterator[Node]:
        """The items of a list.

        Raises:
            DataError: it is no list.
        """
        for index, item in enumerate(self.expect(list).value):
            yield self._child(item, f"{self.path}[{index}]")

    def some(self) -> list[Node]:
        """The items of a list that is not empty.

        Raises:
            DataError: it is no list, or an empty one.
        """
        items = list(self.each())
        if not items:
            raise self.error("is empty")
        return items

    def text(self) -> str:
        """The value, if it is a text that is not blank.

        Raises:
            DataError: it is something else.
        """
        value = str(self.expect(str).value)
        if not value.strip():
            raise self.error("is empty")
        return value

    def expect(self, wanted: type) -> Node:
        """Itself, if it is of that type.

        Raises:
            DataError: it is of another.
        """
        # Not `isinstance`: in Python, though not in JSON, a boolean is a whole number.
        if type(self.value) is not wanted:
            raise self.error(f"expected {_NAMES[wanted]}, found {kind(self.value)}")
        return self

    def error(self, message: str) -> DataError:
        """A `DataError` that points at this value."""
        hint = None if self.line else self.hint
        return DataError(message, file=self.file, line=self.line, field=self.path or None, hint=hint)

    def _child(self, value: Any, path: str) -> Node:
        return Node(value, path, self.file, self.line, self.hint)
