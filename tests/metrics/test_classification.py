import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from foreword.metrics.classification import classification_scores


def test_scores_by_hand():
    gold = ["pos", "pos", "pos", "neg", "neg", "other"]
    predicted = ["pos", "pos", "neg", "neg", "pos", "new"]
    scores = classification_scores(gold, predicted)
    assert scores.main == "accuracy"
    assert scores.main_value == pytest.approx(3 / 6)
    # pos: precision 2/3, recall 2/3; neg: 1/2 and 1/2; other was never found and new never asked for.
    assert scores.values["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 0 + 0) / 4)
    assert scores.values["most_frequent_share"] == pytest.approx(3 / 6)
    assert scores.counts == {
        "items": 6,
        "correct": 3,
        "gold/neg": 2,
        "predicted/neg": 2,
        "correct/neg": 1,
        "gold/new": 0,
        "predicted/new": 1,
        "correct/new": 0,
        "gold/other": 1,
        "predicted/other": 0,
        "correct/other": 0,
        "gold/pos": 3,
        "predicted/pos": 3,
        "correct/pos": 2,
    }


def test_the_best_and_the_worst():
    assert set(classification_scores(["a", "b"], ["a", "b"]).values.items()) == {
        ("accuracy", 1.0),
        ("macro_f1", 1.0),
        ("most_frequent_share", 0.5),
    }
    worst = classification_scores(["a", "a"], ["b", "b"]).values
    assert (worst["accuracy"], worst["macro_f1"], worst["most_frequent_share"]) == (0.0, 0.0, 1.0)


LABELS = st.sampled_from(["0", "1"])


def test_the_positive_label_has_its_own_f1():
    gold, predicted = ["1", "1", "1", "0", "0"], ["1", "0", "1", "1", "0"]
    scores = classification_scores(gold, predicted, positive="1", main="accuracy_and_f1")
    # precision 2/3, recall 2/3; three of five are right
    assert scores.values["f1"] == pytest.approx(2 / 3)
    assert scores.main == "accuracy_and_f1"
    assert scores.main_value == pytest.approx((3 / 5 + 2 / 3) / 2)
    assert classification_scores(gold, predicted, positive="0").values["f1"] == pytest.approx(1 / 2)
    assert classification_scores(gold, predicted, positive="1", main="f1").main_value == pytest.approx(2 / 3)


@given(pairs=st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=30))
def test_scores_agree_with_scikit_learn(pairs):
    gold, predicted = map(list, zip(*pairs, strict=True))
    scores = classification_scores(gold, predicted, positive="1", main="accuracy_and_f1")
    accuracy = accuracy_score(gold, predicted)
    f1 = f1_score([label == "1" for label in gold], [label == "1" for label in predicted], zero_division=0)
    assert scores.values["f1"] == pytest.approx(f1)
    assert scores.main_value == pytest.approx((accuracy + f1) / 2)
    macro = f1_score(gold, predicted, average="macro", zero_division=0)
    both = classification_scores(gold, predicted, main="accuracy_and_macro_f1")
    assert both.values["macro_f1"] == pytest.approx(macro)
    assert both.main_value == pytest.approx((accuracy + macro) / 2)


def test_a_positive_label_that_never_occurs():
    assert classification_scores(["0", "0"], ["0", "0"], positive="1").values["f1"] == 0.0


@pytest.mark.parametrize("main", ["f1", "accuracy_and_f1"])
def test_without_a_positive_label_there_is_no_f1(main):
    with pytest.raises(ValueError, match="needs f1, and so the positive class"):
        classification_scores(["0"], ["0"], main=main)
