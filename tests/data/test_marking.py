"""Where stretches stand, and texts with markers around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.examples import Span
from foreword.data.marking import stretch_at, with_markers


@pytest.mark.parametrize(
    ("text", "word", "stretch", "found"),
    [
        ("Mark told Pete", 0, "Mark", "Mark"),
        ("Mark told Pete", 2, "Pete", "Pete"),
        ("so Mr. Moncrieff left", 1, "Mr. Moncrieff", "Mr. Moncrieff"),
        ("Put it on  the\ttable, please", 3, "The table", "the\ttable"),
        ('"Good for him," he said.', 2, "him", "him"),
        ('said: "He is', 1, "He", "He"),
        ("Emma's mother", 0, "Emma", "Emma"),
        ('" willow-towered Canopy Huntertropic "', 1, "willow-towered Canopy\nHuntertropic", None),
        ("they might use it , but", 2, "it", "it"),  # miscounted by one
        ("use it now", 2, "it", "it"),
        ("their mothers", 0, "the", None),  # not a whole word
        ("a b c d", 0, "c", None),
        ("a b", 2, "c", None),
        ("a b", -2, "a", None),
        ("a (b) c", 1, "(b)", "(b)"),
        ("cost 3.50 (net)", 1, "3.50", "3.50"),
    ],
)
def test_a_stretch_is_found_at_its_word(text, word, stretch, found):
    span = stretch_at(text, word, stretch)
    if stretch.endswith("Huntertropic"):
        found = "willow-towered Canopy Huntertropic"
    assert (None if span is None else text[slice(*span)]) == found


def test_the_word_itself_comes_before_its_neighbours():
    assert stretch_at("it it it", 1, "it") == Span(3, 5)
    assert stretch_at("it is it", 1, "it") == Span(0, 2)


@st.composite
def marked_texts(draw):
    text = draw(st.text("ab ,", min_size=1, max_size=12))
    spans = []
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(text) - 1))
        spans.append(Span(start, draw(st.integers(start + 1, len(text)))))
    return text, spans


@given(marked_texts())
def test_the_text_stays_as_it_was_between_the_markers(case):
    text, spans = case
    markers = ("*", "#")[: len(spans)]
    marked, inner, outer = with_markers(text, spans, markers)

    def without(part):
        for marker in markers:
            part = part.replace(f"{marker} ", "").replace(f" {marker}", "")
        return part

    assert without(marked) == text
    for span, marker, new, whole in zip(spans, markers, inner, outer, strict=True):
        assert without(marked[slice(*new)]) == text[slice(*span)]
        assert marked[whole.start : new.start] == f"{marker} "
        assert marked[new.end : whole.end] == f" {marker}"


@pytest.mark.parametrize(
    ("spans", "marked"),
    [
        ([(0, 4)], "* Anna * saw Bo."),
        ([(0, 4), (9, 11)], "* Anna * saw # Bo #."),
        ([(9, 11), (0, 4)], "# Anna # saw * Bo *."),
        ([(0, 8), (0, 4)], "* # Anna # saw * Bo."),  # one inside the other
        ([(0, 4), (0, 8)], "# * Anna * saw # Bo."),
        ([(0, 8), (5, 8)], "* Anna # saw # * Bo."),
    ],
)
def test_markers_by_hand(spans, marked):
    spans = [Span(*span) for span in spans]
    assert with_markers("Anna saw Bo.", spans, ("*", "#")[: len(spans)])[0] == marked
