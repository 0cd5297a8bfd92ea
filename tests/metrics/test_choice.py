import pytest

from foreword.metrics.choice import choice_scores


def test_scores_by_hand():
    scores = choice_scores([0, 1, 2, 0], [0, 0, 2, 1])
    assert (scores.main, scores.main_value) == ("accuracy", pytest.approx(2 / 4))
    assert scores.counts == {"items": 4, "correct": 2}
