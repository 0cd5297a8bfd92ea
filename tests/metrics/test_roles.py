from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.examples import Entity
from foreword.metrics.roles import arguments, role_scores

ROLES = ("A", "B", "V", "C-A", "C-B", "C-V", "R-A", "C-R-A")


@st.composite
def propositions(draw):
    """Gold and predicted spans of some propositions; often the same ones but for a few."""

    def spans(length):
        found, at = [], 0
        while at < length:
            width = draw(st.integers(0, 3))
            if width:
                found.append(Entity(at, min(at + width, length), draw(st.sampled_from(ROLES))))
            at += max(width, 1)
        return found

    pairs = []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 10))
        gold = spans(length)
        kept = [span for span in gold if draw(st.integers(0, 4))]
        pairs.append((gold, draw(st.sampled_from([gold, kept])) if draw(st.booleans()) else spans(length)))
    return [gold for gold, _ in pairs], [found for _, found in pairs]


def slow_arguments(spans):
    """Word by word: every word bears (type, start of its argument, start of its piece)."""
    words: dict[int, tuple[str, int, int]] = {}
    for start, end, role in sorted(spans):
        kind = role[2:] if role[:2] == "C-" else role
        opened = [head for type_, head, _ in words.values() if type_ == kind]
        head = max(opened) if opened and role[:2] == "C-" else start
        words |= dict.fromkeys(range(start, end), (kind, head, start))
    grouped: dict[tuple[str, int], set[tuple[int, int]]] = {}
    for word, (kind, head, piece) in words.items():
        if kind != "V":
            grouped.setdefault((kind, head), set()).add((piece, word))
    return {(kind, frozenset(pieces)) for (kind, _), pieces in grouped.items()}


@given(case=propositions())
def test_scores_agree_with_a_count_word_by_word(case):
    gold, predicted = case
    scores = role_scores(gold, predicted)
    wanted, found, right = Counter(), Counter(), Counter()
    perfect = 0
    for true, guessed in zip(map(slow_arguments, gold), map(slow_arguments, predicted), strict=True):
        perfect += true == guessed
        for one, counter in ((true, wanted), (guessed, found), (true & guessed, right)):
            for kind, _ in one:
                counter.update([kind, ""])
    for kind in {"", *wanted, *found}:
        name = f"/{kind}" if kind else ""
        assert scores.counts[f"gold{name}"] == wanted[kind]
        assert scores.counts[f"predicted{name}"] == found[kind]
        assert scores.counts[f"correct{name}"] == right[kind]
        precision = right[kind] / found[kind] if found[kind] else 0
        recall = right[kind] / wanted[kind] if wanted[kind] else 0
        f1 = 2 * precision * recall / (precision + recall) if right[kind] else 0
        assert scores.values[f"precision{name}"] == pytest.approx(precision)
        assert scores.values[f"recall{name}"] == pytest.approx(recall)
        assert scores.values[f"f1{name}"] == pytest.approx(f1)
    assert scores.values["perfect"] == perfect / len(gold)
    assert scores.counts["propositions"] == len(gold)


@given(case=propositions())
def test_swapping_gold_and_predicted_swaps_precision_and_recall(case):
    gold, predicted = case
    one, other = role_scores(gold, predicted).values, role_scores(predicted, gold).values
    assert one["precision"] == other["recall"]
    assert one["f1"] == other["f1"]
    assert one["perfect"] == other["perfect"]


@given(case=propositions())
def test_gold_against_itself_is_right_and_perfect(case):
    gold, _ = case
    values = role_scores(gold, [list(reversed(spans)) for spans in gold]).values
    assert values["perfect"] == 1
    assert all(value == 1 for name, value in values.items() if "/" in name)


def test_pieces_of_one_argument_by_hand():
    # (A0 the cat) (V said) (A1 that it) (R-A0 who) (C-A1 was late)
    gold = [
        Entity(0, 2, "A0"),
        Entity(2, 3, "V"),
        Entity(3, 5, "A1"),
        Entity(5, 6, "R-A0"),
        Entity(6, 8, "C-A1"),
    ]
    assert {(argument.type, argument.pieces) for argument in arguments(gold)} == {
        ("A0", ((0, 2),)),
        ("A1", ((3, 5), (6, 8))),
        ("R-A0", ((5, 6),)),
    }
    without_the_piece = [span for span in gold if span.type != "C-A1"]
    scores = role_scores([gold], [without_the_piece])
    assert (scores.counts["gold"], scores.counts["predicted"], scores.counts["correct"]) == (3, 3, 2)
    assert scores.values["f1/A1"] == 0
    assert scores.values["f1/A0"] == scores.values["f1/R-A0"] == 1
    assert scores.values["f1"] == pytest.approx(2 / 3)
    assert scores.values["perfect"] == 0
    # The same words in two arguments of one type are something else than one argument in two pieces.
    in_two = [span._replace(type="A1") if span.type == "C-A1" else span for span in gold]
    scores = role_scores([gold], [in_two])
    assert (scores.counts["gold/A1"], scores.counts["predicted/A1"], scores.counts["correct/A1"]) == (1, 2, 0)


def test_a_piece_goes_to_the_last_argument_of_its_type():
    spans = [Entity(0, 1, "A"), Entity(1, 2, "A"), Entity(2, 3, "B"), Entity(3, 4, "C-A"), Entity(4, 5, "C-A")]
    assert {(a.type, a.pieces) for a in arguments(spans)} == {
        ("A", ((0, 1),)),
        ("A", ((1, 2), (3, 4), (4, 5))),
        ("B", ((2, 3),)),
    }


def test_a_piece_without_a_beginning_is_an_argument():
    gold, predicted = [Entity(0, 1, "A"), Entity(2, 3, "C-A")], [Entity(0, 1, "C-A"), Entity(2, 3, "C-A")]
    assert role_scores([gold], [predicted]).values["f1"] == 1
    # The other way round: what comes before its beginning is no piece of it.
    assert len(arguments([Entity(0, 1, "C-A"), Entity(2, 3, "A")])) == 2


def test_the_predicate_and_its_pieces_do_not_count():
    gold = [Entity(0, 1, "V"), Entity(2, 3, "C-V"), Entity(1, 2, "A")]
    scores = role_scores([gold, gold], [[Entity(1, 2, "A")], [Entity(0, 2, "V")]])
    assert scores.counts == {
        "propositions": 2,
        "gold": 2,
        "predicted": 1,
        "correct": 1,
        "gold/A": 2,
        "predicted/A": 1,
        "correct/A": 1,
    }
    assert scores.values["perfect"] == 0.5


def test_a_proposition_without_arguments():
    scores = role_scores([[Entity(0, 1, "V")]], [[]])
    assert scores.values == {"precision": 0, "recall": 0, "f1": 0, "perfect": 1}


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no items"):
        role_scores([], [])
    with pytest.raises(ValueError, match="1 gold items but 2"):
        role_scores([[]], [[], []])
