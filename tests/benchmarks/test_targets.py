"""The arithmetic of targets, on made-up numbers."""

from __future__ import annotations

import pytest

from suite.targets import Target
from suite.timing import summary

SETTINGS = {
    "here": {
        "ours": summary([1.0, 2.0, 4.0], "s"),
        "theirs": summary([3.0, 4.0, 4.0], "s"),  # 3, 2 and 1 times as much
        "broken": {"unavailable": "no reason"},
    }
}


@pytest.mark.parametrize(
    ("bound", "value", "measured", "reached"),
    [
        ("at least", 1.9, 2.0, True),
        ("at least", 2.0, 2.0, True),
        ("at least", 2.1, 2.0, False),
        ("at most", 0.49, 0.5, False),
        ("at most", 0.5, 0.5, True),
        ("at most", 0.6, 0.5, True),
    ],
)
def test_two_contenders_by_the_median_of_the_rounds_ratios(bound, value, measured, reached):
    verdict = Target("ours", "theirs", "here", bound, value).judged(SETTINGS)
    assert verdict.measured == pytest.approx(measured)
    assert verdict.reached is reached


def test_a_figure_alone_by_its_median():
    assert Target("ours", None, "here", "at most", 2.0).judged(SETTINGS)[1:] == (2.0, True)
    assert Target("ours", None, "here", "at most", 1.9).judged(SETTINGS)[1:] == (2.0, False)


@pytest.mark.parametrize(
    "target",
    [
        Target("ours", "broken", "here", "at least", 1),
        Target("absent", "ours", "here", "at least", 1),
        Target("ours", "theirs", "elsewhere", "at least", 1),
    ],
)
def test_what_did_not_run_reaches_nothing_and_misses_nothing(target):
    assert target.judged(SETTINGS)[1:] == (None, None)


def test_summaries_keep_their_samples():
    assert summary([3.0, 1.0, 2.0], "s") == {
        "unit": "s",
        "min": 1.0,
        "median": 2.0,
        "max": 3.0,
        "samples": [3.0, 1.0, 2.0],
    }
