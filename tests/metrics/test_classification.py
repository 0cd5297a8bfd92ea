import pytest

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
