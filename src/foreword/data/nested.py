"""Values inside a JSON file or a record that know where they stand, and so can complain about themselves."""

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
    """A JSON value and its path, such as ``data[0].paragraphs[2]``.

    Args:
        value: any JSON value.
        path: where it stands; empty for the whole of a file.
        file: that it is of.
        line: 1-based line or number of the record that it is in, where there is one.
        hint: what to add to complaints.
    """

    def __init__(self, value: Any, path: str, file: str, line: int | None = None, *, hint: str | None = None) -> None:
        self.value, self.path, self.file, self.line, self.hint = value, path, file, line, hint

    def numbered(self, line: int) -> Node:
        """The same value, once it is known which record it is in; the hint has served."""
        return Node(self.value, self.path, self.file, line)

    def has(self, key: str) -> bool:
        """Whether the value is an object with such a key."""
        return isinstance(self.value, dict) and key in self.value

    def name(self, key: str, otherwise: str) -> str:
        """What the object is called under a key, whatever its type, or ``otherwise`` where it has no such key."""
        return str(self.get(key).value) if self.has(key) else otherwise

    def get(self, key: str) -> Node:
        """The value under a key.

        Raises:
            DataError: the value is no object, or has no such key.
        """
        self.expect(dict)
        child = self._inner(self.value.get(key), f"{self.path}.{key}" if self.path else key)
        if key not in self.value:
            raise child.error("missing")
        return child

    def each(self) -> Iterator[Node]:
        """The items of a list.

        Raises:
            DataError: the value is no list.
        """
        for index, item in enumerate(self.expect(list).value):
            yield self._inner(item, f"{self.path}[{index}]")

    def expect(self, wanted: type) -> Node:
        """The node itself, if its value is of the type ``wanted``.

        Raises:
            DataError: it is of another type.
        """
        # Not `isinstance`: in Python, though not in JSON, a boolean is a whole number.
        if type(self.value) is not wanted:
            raise self.error(f"expected {_NAMES[wanted]}, found {kind(self.value)}")
        return self

    def some(self) -> list[Node]:
        """The items of a list that is not empty.

        Raises:
            DataError: the value is no list, or an empty one.
        """
        items = list(self.each())
        if not items:
            raise self.error("is empty")
        return items

    def text(self) -> str:
        """The value, which must be a text that is not blank.

        Raises:
            DataError: it is something else.
        """
        value = str(self.expect(str).value)
        if not value.strip():
            raise self.error("is empty")
        return value

    def error(self, message: str) -> DataError:
        """A `DataError` that points at this value."""
        return DataError(message, file=self.file, line=self.line, field=self.path or None, hint=self.hint)

    def _inner(self, value: Any, path: str) -> Node:
        return Node(value, path, self.file, self.line, hint=self.hint)
