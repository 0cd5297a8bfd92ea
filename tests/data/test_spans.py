from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.examples import Entity, Span
from foreword.data.spans import (
    SCHEMES,
    TagError,
    detect_scheme,
    entities_to_tags,
    repair_entities,
    tags_to_entities,
    word_spans,
)

TYPES = ("PER", "LOC", "B-I")


@st.composite
def tagged(draw, min_entities=0):
    """Entities over words, in order, often adjacent and of the same type; and the number of words."""
    pieces = st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from(TYPES))
    entities, at = [], 0
    for gap, length, kind in draw(st.lists(pieces, min_size=min_entities, max_size=6)):
        entities.append(Entity(at + gap, at + gap + length, kind))
        at += gap + length
    return tuple(entities), at + draw(st.integers(0, 2))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(case=tagged())
def test_entities_survive_the_round_trip(scheme, case):
    entities, length = case
    tags = entities_to_tags(entities, length, scheme)
    assert len(tags) == length
    assert tags_to_entities(tags, scheme) == entities
    assert entities_to_tags(reversed(entities), length, scheme) == tags


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_valid_sequence_survives_the_round_trip(scheme):
    alphabet = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in "XY")]
    valid = 0
    for length in range(5):
        for tags in product(alphabet, repeat=length):
            try:
                entities = tags_to_entities(tags, scheme)
            except TagError:
                continue
            valid += 1
            assert entities_to_tags(entities, length, scheme) == list(tags)
    # Each scheme can write every list of entities of two types over 0 to 4 words, in one way each.
    assert valid == 1 + 3 + 11 + 41 + 153


@pytest.mark.parametrize("scheme", SCHEMES)
@given(cases=st.lists(tagged(min_entities=1), min_size=1, max_size=3))
def test_the_scheme_is_detected_wherever_there_is_an_entity(scheme, cases):
    sequences = [["O", "O"], *(entities_to_tags(entities, length, scheme) for entities, length in cases)]
    assert detect_scheme(iter(sequences)) == scheme


@pytest.mark.parametrize("sequences", [[], [[]], [["O", "O"], ["O"]]])
def test_without_entities_the_scheme_is_iob2(sequences):
    assert detect_scheme(sequences) == "IOB2"


def test_a_mixture_of_schemes_is_refused_where_the_second_one_begins():
    with pytest.raises(TagError, match=r"sequence 3 .*'I-PER' after 'O'.*IOB2") as caught:
        detect_scheme([["O"], ["B-PER", "I-PER"], ["O", "I-PER"]])
    assert (caught.value.sequence, caught.value.index) == (2, 1)


@pytest.mark.parametrize(
    ("scheme", "tags", "index", "message"),
    [
        ("IOB2", "O I-PER", 1, "tag 2, 'I-PER' after 'O', is not allowed there in IOB2"),
        ("IOB2", "I-PER", 0, "tag 1, 'I-PER' at the start, is not allowed there in IOB2"),
        ("IOB2", "B-PER I-LOC", 1, "'I-LOC' after 'B-PER'"),
        ("IOB2", "B-PER E-PER", 1, "'E-PER' after 'B-PER', is no tag of IOB2"),
        ("IOB1", "O B-PER", 1, "'B-PER' after 'O', is not allowed there in IOB1"),
        ("IOB1", "I-LOC B-PER", 1, "'B-PER' after 'I-LOC'"),
        ("BIOES", "O E-PER", 1, "'E-PER' after 'O'"),
        ("BIOES", "B-PER O", 1, "'O' after 'B-PER'"),
        ("BIOES", "B-PER E-LOC", 1, "'E-LOC' after 'B-PER'"),
        ("BIOES", "S-PER I-PER", 1, "'I-PER' after 'S-PER'"),
        ("BIOES", "O B-PER", 1, "'B-PER' after 'O', ends the sequence"),
        ("IOB2", "O X-PER", 1, "'X-PER' after 'O', is no tag of IOB2"),
        ("IOB2", "B-", 0, "'B-' at the start, is no tag"),
        ("IOB2", "B", 0, "'B' at the start, is no tag"),
        ("IOB1", "-PER", 0, "'-PER' at the start, is no tag"),
        ("BIOES", "BI-PER", 0, "'BI-PER' at the start, is no tag"),
        ("BIOES", "O-PER", 0, "'O-PER' at the start, is no tag"),
    ],
)
def test_invalid_sequences_are_refused_by_name(scheme, tags, index, message):
    with pytest.raises(TagError) as caught:
        tags_to_entities(tags.split(), scheme)
    assert message in str(caught.value)
    assert scheme in str(caught.value)
    assert caught.value.index == index


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB1", "I-PER I-PER B-PER O I-LOC I-PER"),
        ("IOB2", "B-PER I-PER B-PER O B-LOC B-PER"),
        ("BIOES", "B-PER E-PER S-PER O S-LOC S-PER"),
    ],
)
def test_the_three_schemes_write_the_same_entities(scheme, tags):
    expected = (Entity(0, 2, "PER"), Entity(2, 3, "PER"), Entity(4, 5, "LOC"), Entity(5, 6, "PER"))
    assert tags_to_entities(tags.split(), scheme) == expected


@pytest.mark.parametrize(
    "entities",
    [
        [Entity(0, 2, "PER"), Entity(1, 3, "LOC")],
        [Entity(0, 2, "PER"), Entity(0, 2, "PER")],
        [Entity(2, 5, "PER")],
        [Entity(-1, 1, "PER")],
        [Entity(1, 1, "PER")],
        [Entity(0, 1, "")],
    ],
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_entities_that_no_tags_can_write_are_refused(scheme, entities):
    with pytest.raises(ValueError, match="Entity"):
        entities_to_tags(entities, 4, scheme)


def test_an_unknown_scheme_is_refused():
    with pytest.raises(ValueError, match=r"BILOU.*IOB1"):
        tags_to_entities(["O"], "BILOU")
    with pytest.raises(ValueError, match=r"BILOU.*IOB1"):
        entities_to_tags([], 1, "BILOU")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O I-PER I-PER O", [(1, 3, "PER")]),
        ("B-PER I-LOC I-LOC", [(0, 1, "PER"), (1, 3, "LOC")]),
        ("I-PER B-PER I-PER", [(0, 1, "PER"), (1, 3, "PER")]),
        ("B-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")]),
        ("O O", []),
    ],
)
def test_predicted_tags_are_read_as_conlleval_reads_them(tags, expected):
    assert repair_entities(tags.split()) == tuple(Entity(*entity) for entity in expected)


@given(case=tagged())
def test_nothing_is_repaired_where_nothing_is_broken(case):
    entities, length = case
    assert repair_entities(entities_to_tags(entities, length, "IOB2")) == entities


def test_repair_refuses_what_is_no_tag():
    with pytest.raises(TagError, match="'S-PER' after 'O'"):
        repair_entities(["O", "S-PER"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Anna didn't go.", ["Anna", "didn", "'", "t", "go", "."]),
        ("New  York-based\n", ["New", "York", "-", "based"]),
        ("cafe\u0301 nai\u0308ve", ["cafe\u0301", "nai\u0308ve"]),
        ("\u0915\u094d\u200d\u0937 2nd", ["\u0915\u094d\u200d\u0937", "2nd"]),
        ("hi\U0001f44d\U0001f3fd!", ["hi", "\U0001f44d\U0001f3fd", "!"]),
        ("\U0001f469\u200d\U0001f469\u200d\U0001f467", ["\U0001f469\u200d\U0001f469\u200d\U0001f467"]),
        ("\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea", ["\U0001f1eb\U0001f1f7", "\U0001f1e9\U0001f1ea"]),
        ("\u5317\u4eac\u3002\u4e0a\u6d77", ["\u5317\u4eac", "\u3002", "\u4e0a\u6d77"]),
        (" \u0301x", ["\u0301", "x"]),
        ("a_b", ["a", "_", "b"]),
        ("", []),
        (" \t\u00a0\u3000\x1c", []),
    ],
)
def test_words_of_a_text(text, words):
    assert [text[start:end] for start, end in word_spans(text)] == words


# Characters that meet in odd ways: white space of every kind, marks, joiners, emoji parts, a prefix sign.
ODD = " \t\r\n\x1c\x85\u00a0\u2028ab1'-_\u0301\u200d\u200c\ufe0f\u0600\U0001f3fd\U0001f469\U0001f1e9\u4e2d"


@given(text=st.text() | st.text(alphabet=ODD))
def test_words_are_in_order_and_cover_all_but_the_white_space(text):
    spans = word_spans(text)
    assert all(isinstance(span, Span) for span in spans)
    covered = [position for start, end in spans for position in range(start, end)]
    assert all(start < end for start, end in spans)
    assert covered == [position for position, char in enumerate(text) if not char.isspace()]
