import json
from dataclasses import FrozenInstanceError

import pytest

from foreword.metrics.choice import choice_scores
from foreword.metrics.classification import classification_scores
from foreword.metrics.multi_label import label_set_scores
from foreword.metrics.qa import answer_scores
from foreword.metrics.regression import regression_scores
from foreword.metrics.scores import Scores
from foreword.metrics.sequence import entity_scores


def test_scores_name_their_main_value_and_become_json():
    scores = Scores(values={"f1": 0.5, "recall": 1.0}, counts={"items": 3}, main="f1")
    assert scores.main_value == 0.5
    assert json.loads(json.dumps(scores.to_json())) == {
        "main": "f1",
        "values": {"f1": 0.5, "recall": 1.0},
        "counts": {"items": 3},
        "measures": {},
    }
    with pytest.raises(FrozenInstanceError):
        scores.main = "recall"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"f1": 50.0}, "fraction"),
        ({"f1": float("nan")}, "fraction"),
        ({"f1": -1.5}, "correlation"),
        ({}, "not among"),
    ],
)
def test_scores_refuse_what_is_no_fraction(values, message):
    with pytest.raises(ValueError, match=message):
        Scores(values=values, counts={}, main="f1")


@pytest.mark.parametrize(
    "metric",
    [classification_scores, entity_scores, answer_scores, regression_scores, label_set_scores, choice_scores],
)
def test_every_metric_refuses_unequal_lengths_and_nothing(metric):
    with pytest.raises(ValueError, match="2 gold items but 1 predictions"):
        metric(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no items"):
        metric([], [])


def test_measures_have_scales_of_their_own_but_are_numbers():
    scores = Scores(values={"bleu": 0.3}, counts={}, main="bleu", measures={"nist": 8.6})
    assert scores.to_json()["measures"] == {"nist": 8.6}
    with pytest.raises(ValueError, match="finite"):
        Scores(values={"bleu": 0.3}, counts={}, main="bleu", measures={"nist": float("inf")})
