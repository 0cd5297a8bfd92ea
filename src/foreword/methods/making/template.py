"""Templates: how many vectors of a prompt stand where, around the text and the mask.

Source: Liu et al. 2021 (P-tuning), section 3.1; Hambardzumyan et al. 2021 (WARP), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveInt

from foreword.injection import Anchor


def anchors_of(template: Sequence[int | str]) -> tuple[Anchor, ...]:
    """The place of every vector, in order.

    Vectors next to the mask keep to it, wherever the task puts it; else the first stand before the text, the
    last behind it, and those between the two texts of a pair after the first one's separator token.

    Args:
        template: counts of vectors, and the words "text", "pair" (the second text) and "mask".
    """
    anchors: list[Anchor] = []
    for place, part in enumerate(template):
        if isinstance(part, int):
            before = next((word for word in reversed(template[:place]) if isinstance(word, str)), None)
            after = next((word for word in template[place:] if isinstance(word, str)), None)
            anchors += [_anchor(before, after)] * part
    return tuple(anchors)


def _anchor(before: str | None, after: str | None) -> Anchor:
    """The place between two words, None for either end of the row."""
    match before, after:
        case "mask", _:
            return Anchor.AFTER_MASK
        case _, "mask":
            return Anchor.BEFORE_MASK
        case None, _:
            return Anchor.AFTER_FIRST
        case _, None:
            return Anchor.BEFORE_LAST
    return Anchor.BETWEEN


def _check(template: tuple[int | str, ...]) -> tuple[int | str, ...]:
    words = [part for part in template if isinstance(part, str)]
    if "text" not in words or len(words) > len(set(words)):
        raise ValueError("expected 'text' once, and each other word at most once")
    if "pair" in words and words.index("pair") < words.index("text"):
        raise ValueError("'pair' is the second text, so it comes after 'text'")
    if len(words) == len(template):
        raise ValueError("expected at least one count of vectors, as in [3, 'text', 3]")
    return template


Template = Annotated[tuple[PositiveInt | Literal["text", "pair", "mask"], ...], AfterValidator(_check)]
"""Counts of vectors and what they stand around, such as ``(3, "text", 3, "mask", 3)``."""
