from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.metrics.regression import regression_scores

NUMBERS = st.one_of(st.integers(-5, 5).map(float), st.floats(-1e3, 1e3, width=32))


def pearson(xs, ys) -> float:
    """The definition."""
    mx, my = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    both = math.fsum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    return both / math.sqrt(math.fsum((x - mx) ** 2 for x in xs) * math.fsum((y - my) ** 2 for y in ys))


def ranks(xs) -> list[float]:
    """Counted from 1; equal numbers share the mean of theirs."""
    return [sum(other < x for other in xs) + (sum(other == x for other in xs) + 1) / 2 for x in xs]


def test_scores_by_hand():
    scores = regression_scores([1, 2, 3, 4], [10, 30, 20, 50])
    assert scores.main == "pearson_and_spearman"
    # Spearman: 1 - 6 (0 + 1 + 1 + 0) / (4 (16 - 1)). Pearson: means 2.5 and 27.5, products 55, squares 5 and 875.
    assert scores.values["spearman"] == pytest.approx(1 - 12 / 60)
    assert scores.values["pearson"] == pytest.approx(55 / math.sqrt(5 * 875))
    assert scores.main_value == pytest.approx((0.8 + 55 / math.sqrt(5 * 875)) / 2)
    assert scores.measures == {"mean_squared_error": (81 + 784 + 289 + 2116) / 4}
    assert scores.counts == {"items": 4}


@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_scores_are_the_definitions_and_always_numbers(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers that hardly differ
        values = regression_scores(gold, predicted).values
    assert all(-1 <= value <= 1 for value in values.values())
    if len(set(gold)) == 1 or len(set(predicted)) == 1:
        assert set(values.values()) == {0.0}
        return
    assert values["spearman"] == pytest.approx(pearson(ranks(gold), ranks(predicted)), abs=1e-9)
    if min(max(side) - min(side) for side in (gold, predicted)) > 1e-3:
        assert values["pearson"] == pytest.approx(pearson(gold, predicted), abs=1e-6)


@pytest.mark.parametrize(
    ("gold", "predicted"), [([1.0, 2.0, 3.0], [0.3] * 3), ([2.0] * 3, [1.0, 2.0, 3.0]), ([1.0], [1.0])]
)
def test_what_is_constant_has_no_correlation_and_raises_no_warning(gold, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(regression_scores(gold, predicted).values.values()) == {0.0}


@given(gold=st.lists(NUMBERS, min_size=2, max_size=20, unique=True), scale=st.floats(0.1, 10), shift=st.floats(-9, 9))
def test_the_best_and_the_worst(gold, scale, shift):
    if max(gold) - min(gold) < 1e-2 or len({round(number, 4) for number in gold}) < len(gold):
        return  # rounding would make equal what was not
    for sign in (1, -1):
        values = regression_scores(gold, [sign * scale * number + shift for number in gold]).values
        assert list(values.values()) == pytest.approx([sign] * 3, abs=1e-6)
