"""Likelihood of given tokens, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.metrics.likelihood import Likelihood, likelihood_scores


def test_two_texts_by_hand():
    # Tokens with probabilities 1/2 and 1/8 (one of them the likeliest), and a text of one token with 1/4 that was.
    found = [Likelihood(-math.log(16), 2, 1, 1, 0), Likelihood(-math.log(4), 1, 1, 1, 1)]
    scores = likelihood_scores(found)
    assert scores.main == "likelihood"
    assert scores.values["likelihood"] == pytest.approx((1 / 64) ** (1 / 3))
    assert scores.measures["perplexity"] == pytest.approx(4.0)
    assert scores.values["token_accuracy"] == pytest.approx(2 / 3)
    assert scores.values["exact_match"] == pytest.approx(1 / 2)
    assert scores.counts == {"texts": 2, "tokens": 3}


def test_nothing_to_score():
    with pytest.raises(ValueError, match="no tokens"):
        likelihood_scores([Likelihood()])


def test_what_is_impossible_has_a_perplexity_still():
    scores = likelihood_scores([Likelihood(-1e9, 1, 0, 1, 0)])
    assert scores.values["likelihood"] == 0.0
    assert math.isfinite(scores.measures["perplexity"])


@given(st.lists(st.tuples(st.floats(-300, 0), st.integers(1, 9)), min_size=1), st.randoms())
def test_order_does_not_matter_and_less_loss_is_better(pairs, random):
    found = [Likelihood(value, tokens, 0, 1, 0) for value, tokens in pairs]
    scores = likelihood_scores(found)
    shuffled = list(found)
    random.shuffle(shuffled)
    assert likelihood_scores(shuffled).values["likelihood"] == pytest.approx(scores.values["likelihood"])
    worse = [Likelihood(one.log_probability - 1, one.tokens, 0, 1, 0) for one in found]
    assert likelihood_scores(worse).values["likelihood"] <= scores.values["likelihood"]
