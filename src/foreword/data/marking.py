"""Stretches of a text that an example is about: found by word, and marked in the text itself. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from foreword.data.examples import Span

_WORD = re.compile(r"\S+")
_NEAR = (0, -1, 1)
"""Words that a count may be off: in SuperGLUE's WSC one of 1,316 is off by one."""


def stretch_at(text: str, word: int, stretch: str) -> Span | None:
    """Characters of ``stretch`` where it stands at a word of the text; None where it does not.

    Words are parted by white space. Case and the kind of white space make no difference; punctuation may stand
    before and behind the stretch, and the count may be off by one word, as the data of WSC need it.

    Args:
        text: where it stands.
        word: number of its first word, from 0.
        stretch: one or several words.
    """
    starts = [found.start() for found in _WORD.finditer(text)]
    words = r"\s+".join(map(re.escape, stretch.split()))
    pattern = re.compile(rf"[^\w\s]*?({words})(?!\w)", re.IGNORECASE)
    for place in (word + off for off in _NEAR):
        if 0 <= place < len(starts) and (found := pattern.match(text, starts[place])):
            return Span(*found.span(1))
    return None


def with_markers(
    text: str, spans: Sequence[Span], markers: Sequence[str]
) -> tuple[str, tuple[Span, ...], tuple[Span, ...]]:
    """The text with a marker and a space on either side of each span.

    Spans may lie inside one another; the markers of the outer one are then outside.

    Args:
        text: any text.
        spans: characters of it, none of them empty.
        markers: one per span.

    Returns:
        The new text, where each span is in it, and where it is with its markers.
    """
    cuts = []
    for number, (span, marker) in enumerate(zip(spans, markers, strict=True)):
        length = span.end - span.start
        cuts.append((span.end, 0, length, number, f" {marker}"))
        cuts.append((span.start, 1, -length, number, f"{marker} "))
    marked, at = "", 0
    places: list[list[int]] = [[] for _ in spans]  # per span, the ends of both its markers
    for cut, _, _, number, inserted in sorted(cuts):
        marked += text[at:cut]
        places[number] += [len(marked), len(marked) + len(inserted)]
        marked, at = marked + inserted, cut
    inner = tuple(Span(opened, closing) for _, opened, closing, _ in places)
    outer = tuple(Span(opening, closed) for opening, _, _, closed in places)
    return marked + text[at:], inner, outer
