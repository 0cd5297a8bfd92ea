"""How tasks share an epoch: by size, by temperature, alike; exactly and not by chance."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foreword.training.mixing import Mixing, shares

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("sizes", "temperature", "expected"),
    [
        ([7], 1, [7]),
        ([7], math.inf, [7]),
        ([30, 10], 1, [30, 10]),
        ([30, 10], math.inf, [20, 20]),
        ([81, 16, 9], 2, [60, 26, 20]),  # 59.625, 26.5 and 19.875: two steps are left, for .875 and .625
        ([2, 1], math.inf, [2, 1]),  # three steps for two: the first of equals gets the odd one
        ([1000, 1], 1, [1000, 1]),
    ],
)
def test_by_hand(sizes, temperature, expected):
    assert shares(sizes, temperature) == expected


@given(SIZES)
def test_at_temperature_one_every_task_has_its_pass(sizes):
    assert shares(sizes, 1) == sizes


@given(SIZES, st.one_of(st.floats(1, 100), st.just(math.inf)))
def test_shares_are_the_probabilities_to_within_a_step(sizes, temperature):
    found = shares(sizes, temperature)
    weights = [Fraction(size ** (1 / temperature)) for size in sizes]
    for count, weight in zip(found, weights, strict=True):
        exact = sum(sizes) * weight / sum(weights)
        assert count >= 1
        assert abs(count - exact) < 1 or count == 1
    assert sum(found) >= sum(sizes)
    if min(sum(sizes) * weight / sum(weights) for weight in weights) >= 1:
        assert sum(found) == sum(sizes)


@given(st.integers(1, 500), st.integers(1, 500), st.floats(1, 50), st.floats(1, 50))
def test_a_higher_temperature_never_takes_from_the_smaller(one, other, first, second):
    small, large = sorted((one, other))
    cool, warm = sorted((first, second))
    assert shares([small, large], warm)[0] >= shares([small, large], cool)[0]


class TestSettings:
    @pytest.mark.parametrize("settings", [{}, {"temperature": 2.5}, {"temperature": math.inf}, {"cap": 3}])
    def test_come_back_from_plain_values(self, settings):
        mixing = Mixing(**settings)
        plain = mixing.model_dump(mode="json")
        assert plain["temperature"] == ("inf" if math.isinf(mixing.temperature) else mixing.temperature)
        assert Mixing.model_validate(plain) == mixing

    @pytest.mark.parametrize("settings", [{"temperature": 0.9}, {"temperature": math.nan}, {"cap": 0}, {"top": 1}])
    def test_refused(self, settings):
        with pytest.raises(ValidationError):
            Mixing(**settings)
