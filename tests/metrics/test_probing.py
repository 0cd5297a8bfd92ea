from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

from foreword.metrics.probing import rank_scores


def test_by_hand():
    scores = rank_scores([1, 2, 1, 10, 11])
    assert scores.main == "p_at_1"
    assert scores.values == pytest.approx({"p_at_1": 2 / 5, "p_at_10": 4 / 5, "mrr": (2 + 1 / 2 + 1 / 10 + 1 / 11) / 5})
    assert scores.counts == {"facts": 5}


@given(st.lists(st.permutations(range(12)), min_size=1, max_size=8), st.integers(0, 11))
def test_agrees_with_scikit_learn(rows, word):
    """One wanted word per row: then average precision is the reciprocal of its rank."""
    logits = np.array(rows, dtype=float)
    ranks = [int((row > row[word]).sum()) + 1 for row in logits]
    values = rank_scores(ranks).values
    wanted = np.full(len(rows), word)
    for k in (1, 10):
        assert values[f"p_at_{k}"] == pytest.approx(top_k_accuracy_score(wanted, logits, k=k, labels=range(12)))
    assert values["mrr"] == pytest.approx(label_ranking_average_precision_score(np.eye(12)[wanted], logits))
    assert 0 <= values["p_at_1"] <= values["mrr"] <= 1
    assert values["p_at_1"] <= values["p_at_10"]


@pytest.mark.parametrize("ranks", [[], [0], [1, -3]])
def test_what_are_no_ranks(ranks):
    with pytest.raises(ValueError, match=r"items|counted from 1"):
        rank_scores(ranks)
