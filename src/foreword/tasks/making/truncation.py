"""Which tokens to leave out of a row that is too long, where a tokenizer's own truncation will not do."""

from __future__ import annotations

from collections.abc import Sequence


def longest_first(texts: Sequence[Sequence[int]], count: int) -> set[int]:
    """``count`` tokens to leave out, one after the other from the end of whichever text is the longest then.

    Args:
        texts: of each text the tokens that may go, those that go first in the end.
        count: at most as many as there are.
    """
    left, dropped = [list(text) for text in texts], set[int]()
    for _ in range(count):
        dropped.add(max(left, key=len).pop())
    return dropped
