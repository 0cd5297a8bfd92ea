from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from foreword.metrics.right_answers import right_answer_scores

QUESTIONS = st.lists(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=5), min_size=1, max_size=6)


def scores_of(questions):
    return right_answer_scores(*([[pair[side] for pair in question] for question in questions] for side in (0, 1)))


def test_scores_by_hand():
    gold = [[True, False, True], [False, False], [True, True]]
    predicted = [[True, True, False], [False, False], [True, True]]
    scores = right_answer_scores(gold, predicted)
    assert scores.main == "f1_a"
    # Three of four found, three of four right: over all answers. Question 1 has 1/2 and 1/2, question 2 asks for
    # nothing and is given nothing (1 and 1), question 3 has 1 and 1.
    assert scores.values == pytest.approx(
        {"f1_a": 3 / 4, "f1_m": (1 / 2 + 1 + 1) / 3, "exact_match": 2 / 3, "all_right_f1_a": 2 * (4 / 7) / (4 / 7 + 1)}
    )
    assert scores.counts == {"questions": 3, "answers": 7, "right": 4, "predicted": 4, "correct": 3}


def test_f1_over_questions_is_of_the_means_and_not_their_mean():
    # Precision 1/2 and recall 1, then 1 and 1/2: each F1 is 2/3, while the means are 3/4 and 3/4.
    scores = right_answer_scores([[True, False], [True, True]], [[True, True], [True, False]])
    assert scores.values["f1_m"] == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("gold", "predicted", "f1_m"),
    [
        ([True], [False], 0.0),  # precision 1, recall 0
        ([False], [True], 0.0),
        ([False], [False], 1.0),
        ([True], [True], 1.0),
    ],
)
def test_where_nothing_is_right_or_called_so(gold, predicted, f1_m):
    scores = right_answer_scores([gold], [predicted])
    assert scores.values["f1_m"] == scores.values["f1_a"] == f1_m


@given(QUESTIONS)
def test_f1_over_all_answers_is_that_of_sklearn(questions):
    answers = [pair for question in questions for pair in question]
    gold, predicted = zip(*answers, strict=True)
    expected = f1_score(gold, predicted, pos_label=True, zero_division=1.0)
    values = scores_of(questions).values
    assert values["f1_a"] == pytest.approx(expected)
    assert values["all_right_f1_a"] == pytest.approx(f1_score(gold, [True] * len(gold), zero_division=0.0))


@given(QUESTIONS)
def test_properties(questions):
    values = scores_of(questions).values
    assert all(0 <= value <= 1 for value in values.values())
    perfect = scores_of([[(gold, gold) for gold, _ in question] for question in questions]).values
    assert perfect["f1_a"] == perfect["f1_m"] == perfect["exact_match"] == 1
    assert (values["exact_match"] == 1) == (values["f1_m"] == 1) == all(a == b for q in questions for a, b in q)
    assert scores_of(questions[::-1]).values == pytest.approx(values)  # in whatever order
    alone = [scores_of([question]) for question in questions]
    assert values["exact_match"] == pytest.approx(sum(s.values["exact_match"] for s in alone) / len(alone))


@pytest.mark.parametrize(
    ("gold", "predicted"), [([], []), ([[True]], []), ([[True]], [[True, False]]), ([[True], [True]], [[True]])]
)
def test_what_does_not_go_together(gold, predicted):
    with pytest.raises(ValueError, match=r"."):
        right_answer_scores(gold, predicted)
