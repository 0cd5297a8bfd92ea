from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.metrics.threshold import DEFAULT_THRESHOLD, best_threshold

SURE = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.50001, 0.9, 1.0]) | st.floats(0, 1)


def f1(gold, said) -> float:
    right = sum(wanted and yes for wanted, yes in zip(gold, said, strict=True))
    return 2 * right / (sum(gold) + sum(said)) if right else 0.0


@given(answers=st.lists(st.tuples(st.booleans(), SURE), min_size=1, max_size=18))
def test_no_threshold_is_better_than_the_best(answers):
    gold, probabilities = map(list, zip(*answers, strict=True))
    threshold = best_threshold(gold, probabilities)
    assert 0 <= threshold <= 1
    reached = f1(gold, [sure >= threshold for sure in probabilities])
    for other in (0.0, DEFAULT_THRESHOLD, *probabilities, *(np.nextafter(sure, 2) for sure in probabilities)):
        assert reached >= f1(gold, [sure >= other for sure in probabilities]) - 1e-12


@pytest.mark.parametrize(
    ("gold", "threshold"),
    [
        ([True, True, False, False], 0.25),
        ([True, False, False, False], 0.6),
        ([True, True, True, True], 0.05),
        ([False, False, False, False], DEFAULT_THRESHOLD),
    ],
)
def test_thresholds_by_hand(gold, threshold):
    assert best_threshold(gold, [0.9, 0.3, 0.2, 0.1]) == pytest.approx(threshold)


@pytest.mark.parametrize(("gold", "probabilities"), [([], []), ([True], [])])
def test_what_does_not_go_together(gold, probabilities):
    with pytest.raises(ValueError, match=r"."):
        best_threshold(gold, probabilities)
