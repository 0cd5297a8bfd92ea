from __future__ import annotations

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.metrics.qa import answer_scores, no_answer_threshold, normalise_answer


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat, sat!", "cat sat"),
        ("a cat and an owl\n", "cat and owl"),
        ("Theodore's anthem", "theodores anthem"),
        ("the-end", "theend"),
        ("U.S.", "us"),
        ("the a", ""),
        ("\u00ab caf\u00e9 \u00bb", "\u00ab caf\u00e9 \u00bb"),  # only ASCII punctuation goes
    ],
)
def test_normalisation(text, normal):
    assert normalise_answer(text) == normal


@pytest.mark.parametrize(
    ("gold", "predicted", "f1", "exact"),
    [
        (["The Cat"], "cat.", 1.0, 1.0),
        (["in 1990", "1990"], "the 1990", 1.0, 1.0),
        (["big black cat"], "black cat sat there", 2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3), 0.0),
        (["x x y"], "x x x", 2 / 3, 0.0),
        (["dog", "black cat"], "cat", 2 * 1 * (1 / 2) / (1 + 1 / 2), 0.0),
        (["cat"], "dog", 0.0, 0.0),
        (["cat"], "", 0.0, 0.0),
        ([], "", 1.0, 1.0),
        ([], " The. ", 1.0, 1.0),
        ([], "cat", 0.0, 0.0),
        (["the", "cat"], "", 0.0, 0.0),
        (["the"], "", 1.0, 1.0),
    ],
)
def test_one_question(gold, predicted, f1, exact):
    scores = answer_scores([gold], [predicted])
    assert scores.main == "f1"
    assert scores.main_value == pytest.approx(f1)
    assert scores.values["exact_match"] == exact
    group = "has_answer" if gold else "no_answer"
    assert scores.values[f"{group}_f1"] == pytest.approx(f1)
    assert scores.values[f"{group}_exact_match"] == exact


def test_questions_are_averaged_and_split():
    scores = answer_scores([["cat"], ["black cat"], [], []], ["cat", "cat", "", "dog"])
    assert scores.counts == {"questions": 4, "has_answer": 2, "no_answer": 2}
    assert scores.values == pytest.approx(
        {
            "f1": (1 + 2 / 3 + 1 + 0) / 4,
            "exact_match": 2 / 4,
            "has_answer_f1": (1 + 2 / 3) / 2,
            "has_answer_exact_match": 1 / 2,
            "no_answer_f1": 1 / 2,
            "no_answer_exact_match": 1 / 2,
        }
    )


def test_a_part_without_questions_has_no_value():
    assert set(answer_scores([["cat"]], ["cat"]).values) == {
        "f1",
        "exact_match",
        "has_answer_f1",
        "has_answer_exact_match",
    }


# --- the official definition once more, written slowly -------------------------------------------


def slow_words(text: str) -> list[str]:
    """Lower case; punctuation out; a word that is an article out. No regular expressions."""
    kept = "".join(char for char in text.lower() if char not in string.punctuation)
    words, word = [], ""
    for char in kept + " ":
        if char.isalnum() or char == "_":  # what \\b looks at
            word += char
            continue
        words += [" " if word in ("a", "an", "the") else word, char]
        word = ""
    return "".join(words).split()


def slow_f1(gold: str, guess: str) -> float:
    wanted, found = slow_words(gold), slow_words(guess)
    if not wanted or not found:
        return float(wanted == found)
    left, common = list(wanted), 0
    for word in found:
        if word in left:
            left.remove(word)
            common += 1
    if not common:
        return 0.0
    precision, recall = common / len(found), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def slow_scores(golds: list[str], guess: str) -> tuple[float, float]:
    wanted = [gold for gold in golds if slow_words(gold)] or [""]
    exact = any(slow_words(gold) == slow_words(guess) for gold in wanted)
    return max(slow_f1(gold, guess) for gold in wanted), float(exact)


WORDS = st.sampled_from(
    ["a", "an", "the", "The", "cat", "Cat's", "black", "an-owl", "U.S.", "x_a", "\u00e9", "1990", "a.", "-", "\u00ab"]
)
TEXTS = st.lists(WORDS, max_size=5).flatmap(
    lambda words: st.sampled_from([" ", "  ", "\t", "-"]).map(lambda s: s.join(words))
)
QUESTIONS = st.tuples(st.lists(TEXTS, max_size=3), TEXTS)


@given(st.lists(QUESTIONS, min_size=1, max_size=6))
def test_agrees_with_the_definition_written_slowly(questions):
    golds, guesses = ([question[place] for question in questions] for place in (0, 1))
    scores = answer_scores(golds, guesses)
    slow = [slow_scores(*question) for question in questions]
    assert scores.values["f1"] == pytest.approx(sum(f1 for f1, _ in slow) / len(slow))
    assert scores.values["exact_match"] == pytest.approx(sum(exact for _, exact in slow) / len(slow))


@given(st.lists(TEXTS, min_size=1, max_size=3), TEXTS)
def test_bounds_and_order(golds, guess):
    values = answer_scores([golds], [guess]).values
    assert 0 <= values["exact_match"] <= values["f1"] <= 1
    assert answer_scores([golds[::-1]], [guess]).values == values
    assert answer_scores([[*golds, guess]], [guess]).values["exact_match"] == 1.0 or not slow_words(guess)


@given(TEXTS, TEXTS)
def test_f1_is_the_same_both_ways(one, other):
    if slow_words(one) and slow_words(other):
        assert answer_scores([[one]], [other]).values["f1"] == answer_scores([[other]], [one]).values["f1"]


# --- the threshold -------------------------------------------------------------------------------

MARGINS = st.sampled_from([-math.inf, -3.0, -0.5, 0.0, 0.25, 1.0, 7.5]) | st.floats(-9, 9, width=16)


def f1_at(questions: list[tuple[list[str], str, float]], threshold: float) -> float:
    """Mean F1 where only what beats the threshold is answered."""
    given = [guess if margin > threshold else "" for _, guess, margin in questions]
    return answer_scores([golds for golds, _, _ in questions], given).values["f1"]


@given(st.lists(st.tuples(st.lists(TEXTS, max_size=2), TEXTS, MARGINS), min_size=1, max_size=8))
def test_no_threshold_is_better_than_the_one_found(questions):
    found = no_answer_threshold(*(list(column) for column in zip(*questions, strict=True)))
    assert math.isfinite(found)
    every = [*(margin for _, _, margin in questions), *(m - 1e-3 for _, _, m in questions), -100.0, 100.0]
    assert f1_at(questions, found) == pytest.approx(max(f1_at(questions, threshold) for threshold in every))


class TestThreshold:
    def test_by_hand(self):
        """Answering the first three wins 1, loses 1 and wins 2/3; the fourth cannot be answered."""
        golds = [["cat"], [], ["black cat"], []]
        assert no_answer_threshold(golds, ["cat", "dog", "cat", "owl"], [4.0, 3.0, 1.0, 0.0]) == 3.5
        assert no_answer_threshold(golds, ["cat", "dog", "cat", "owl"], [4.0, -3.0, 1.0, 0.0]) == 0.5

    def test_questions_of_one_margin_stay_together(self):
        assert no_answer_threshold([["cat"], [], []], ["cat", "dog", "dog"], [1.0, 1.0, 1.0]) > 1.0
        assert no_answer_threshold([["cat"], ["cat"], []], ["cat", "cat", "dog"], [1.0, 1.0, 1.0]) < 1.0

    def test_all_or_none(self):
        assert no_answer_threshold([["cat"], ["dog"]], ["cat", "dog"], [-2.0, -5.0]) == -6.0
        assert no_answer_threshold([[], []], ["cat", "dog"], [2.0, 5.0]) == 6.0

    def test_where_nothing_was_found(self):
        assert no_answer_threshold([["cat"], []], ["", ""], [-math.inf] * 2) == 0.0

    def test_lengths_must_agree(self):
        with pytest.raises(ValueError, match="zip"):
            no_answer_threshold([["cat"]], ["cat"], [])
