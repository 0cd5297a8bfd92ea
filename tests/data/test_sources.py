"""Which records a source stands for: limits, samples, and what is put aside."""

from __future__ import annotations

import pytest

from foreword.data.sources import Source

ITEMS = tuple({"n": n} for n in range(50))


def numbers(**choice) -> list[int]:
    return [record.fields["n"] for record in Source(items=ITEMS, **choice).records()]


def test_a_sample_is_drawn_from_the_first_records_in_their_order():
    drawn = numbers(limit=30, sample=10)
    assert len(drawn) == 10
    assert drawn == sorted(drawn) == numbers(limit=30, sample=10)
    assert set(drawn) < set(range(30))
    assert drawn != list(range(10)), "a sample is not the beginning"
    assert numbers(limit=5, sample=10) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("choice", [{}, {"sample": 20}, {"limit": 7}])
def test_what_is_put_aside_and_the_rest_are_the_whole(choice):
    rest, aside = numbers(holdout=0.3, **choice), numbers(holdout=0.3, held_out="dev", **choice)
    assert sorted(rest + aside) == numbers(**choice)
    assert len(aside) == round(0.3 * len(numbers(**choice)))


def test_something_is_always_put_aside():
    assert len(numbers(limit=3, holdout=0.01, held_out="dev")) == 1


@pytest.mark.parametrize("choice", [{}, {"sample": 20}, {"limit": 7}])
def test_tests_are_put_aside_before_anything_is_chosen(choice):
    """So they are the same whatever a run trains on, and none of them is ever trained on or selected on."""
    tests = numbers(test_holdout=0.2, held_out="test")
    assert len(tests) == 10
    rest = numbers(test_holdout=0.2, holdout=0.25, **choice)
    dev = numbers(test_holdout=0.2, holdout=0.25, held_out="dev", **choice)
    assert not {*tests} & {*rest, *dev}
    assert len(rest) + len(dev) == {"sample": 20, "limit": 7}.get(next(iter(choice), ""), 40)
    assert tests == numbers(holdout=0.2, held_out="dev"), "the part that a recipe with a holdout selects on"
