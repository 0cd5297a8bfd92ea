"""Drawing without repeats, and filling templates: what the three generators share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from string import Formatter
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
_TRIES = 200


class Piece(NamedTuple):
    """A stretch of a filled template: literal text (``slot is None``) or the value of a slot."""

    text: str
    slot: str | None


def pieces(template: str, values: Mapping[str, str]) -> list[Piece]:
    """Fill ``{slot}`` places, keeping apart what is text and what is a value.

    Raises:
        KeyError: the template has a slot without a value.
    """
    found: list[Piece] = []
    for literal, slot, _, _ in Formatter().parse(template):
        found.append(Piece(literal, None))
        if slot is not None:
            found.append(Piece(values[slot], slot))
    return [piece for piece in found if piece.text]


def draw_new(draw: Callable[[], Item], key: Callable[[Item], Hashable], seen: set[Hashable]) -> Item:
    """Draw until the key of an item is not in ``seen``, and add it there.

    Raises:
        ValueError: many draws in a row gave nothing new, so the asked size is too large.
    """
    for _ in range(_TRIES):
        item = draw()
        if key(item) not in seen:
            seen.add(key(item))
            return item
    raise ValueError("the example data has not that many different items; ask for a smaller size")


def capitalise(text: str) -> str:
    """The text with a capital first letter, and the rest as it is."""
    return text[:1].upper() + text[1:]
