from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from foreword.metrics.multi_label import label_set_scores

SETS = st.sets(st.sampled_from("abc"), max_size=3)


def micro(gold, predicted) -> float:
    """Counted one label after another."""
    found = [(n, label) for n, labels in enumerate(predicted) for label in labels]
    wanted = [(n, label) for n, labels in enumerate(gold) for label in labels]
    right = sum(pair in wanted for pair in found)
    return 2 * right / (len(found) + len(wanted)) if found or wanted else 0.0


def test_scores_by_hand():
    gold = [{"a", "b"}, {"a"}, set(), {"c"}]
    predicted = [{"a", "b"}, {"b"}, set(), {"a", "c"}]
    scores = label_set_scores(gold, predicted)
    assert scores.main == "micro_f1"
    assert scores.main_value == pytest.approx(2 * 3 / (4 + 5))
    # a: 1 right of 2 found and 2 wanted; b: 1 right of 2 found and 1 wanted; c: right.
    assert scores.values["macro_f1"] == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert scores.values["subset_accuracy"] == 2 / 4
    assert {name: scores.counts[name] for name in ("items", "gold", "predicted", "correct")} == {
        "items": 4,
        "gold": 4,
        "predicted": 5,
        "correct": 3,
    }
    assert [scores.counts[f"{kind}/b"] for kind in ("gold", "predicted", "correct")] == [1, 2, 1]


@given(pairs=st.lists(st.tuples(SETS, SETS), min_size=1, max_size=8))
def test_scores_agree_with_counting_and_with_scikit_learn(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    values = label_set_scores(gold, predicted).values
    assert values["micro_f1"] == pytest.approx(micro(gold, predicted))
    assert values["subset_accuracy"] == sum(one == other for one, other in pairs) / len(pairs)
    occurring = sorted(set().union(*gold, *predicted))
    each = [micro([g & {label} for g in gold], [p & {label} for p in predicted]) for label in occurring]
    assert values["macro_f1"] == pytest.approx(float(np.mean(each)) if each else 0.0)
    if len(occurring) > 1:  # a table of one column would be something else
        table = MultiLabelBinarizer(classes=occurring).fit(gold)
        for average in ("micro", "macro"):
            theirs = f1_score(table.transform(gold), table.transform(predicted), average=average, zero_division=0)
            assert values[f"{average}_f1"] == pytest.approx(theirs)


def test_a_label_given_twice_counts_once():
    assert label_set_scores([["a"], ["b"]], [["a", "a"], []]).values["micro_f1"] == pytest.approx(2 / 3)


def test_one_label_alone_is_no_question_of_yes_or_no():
    """What has no label and is given none adds nothing to F1."""
    assert label_set_scores([{"a"}, set(), set(), set()], [set()] * 4).values == {
        "micro_f1": 0.0,
        "macro_f1": 0.0,
        "subset_accuracy": 0.75,
    }
