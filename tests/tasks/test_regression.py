from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

import foreword as fw
from foreword.data.examples import ScoreExample
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.tasks import Regression
from tiny import tiny_backbone, tiny_bert_tokenizer


def records(*fields):
    return [Record(each, "data.jsonl", number) for number, each in enumerate(fields, 1)]


def scored(*scores):
    return [ScoreExample(id=str(n), text="x", score=score) for n, score in enumerate(scores)]


@pytest.mark.parametrize(("value", "score"), [(3, 3.0), (2.5, 2.5), ("4.25", 4.25), ("-1e2", -100.0), (" 0 ", 0.0)])
def test_numbers_and_texts_that_are_numbers(value, score):
    (example,) = Regression().read(records({"text": "x", "score": value}), labelled=True)
    assert example.score == score


@pytest.mark.parametrize("value", [None, True, "", "much", "nan", float("inf"), "1_000", [1], 10**400])
def test_what_is_no_number(value):
    with pytest.raises(DataError, match=r"data\.jsonl:1: field 'score': expected a number, found"):
        Regression().read(records({"text": "x", "score": value}), labelled=True)


def test_a_number_may_be_missing_only_in_prediction():
    (example,) = Regression().read(records({"text": "x"}), labelled=False)
    assert Regression().encode(example, tiny_bert_tokenizer(), 16).rows[0].targets == {}
    with pytest.raises(DataError, match="field 'score': missing"):
        Regression().read(records({"text": "x"}), labelled=True)


def test_numbers_outside_of_the_range_are_refused():
    task = Regression(range=(0, 5))
    assert task.read(records({"text": "x", "score": 5}), labelled=True)[0].score == 5
    with pytest.raises(DataError, match=r"data\.jsonl:1: field 'score': 5.1 lies outside of task.range, 0 to 5"):
        task.read(records({"text": "x", "score": 5.1}), labelled=True)
    with pytest.raises(ValidationError, match="expected the lower number first"):
        Regression(range=(5, 0))


class TestScale:
    def test_is_found_and_recorded(self):
        task = Regression().with_labels_from(scored(2, 4, 4, 6))
        assert (task.mean, task.deviation) == (4, math.sqrt(2))
        assert Regression.model_validate_json(task.model_dump_json()) == task

    def test_of_equal_numbers(self):
        assert Regression().with_labels_from(scored(3, 3)).deviation == 1

    def test_what_is_set_is_kept(self):
        task = Regression(mean=1).with_labels_from(scored(2, 4))
        assert (task.mean, task.deviation) == (1, 1)
        assert Regression(deviation=7).with_labels_from(scored(2, 4)).deviation == 7

    @pytest.mark.parametrize("settings", [{"deviation": 0}, {"deviation": float("inf")}, {"mean": float("nan")}])
    def test_of_no_use(self, settings):
        with pytest.raises(ValidationError):
            Regression(**settings)

    def test_what_is_encoded_is_decoded(self):
        task = Regression(mean=3, deviation=0.5)
        (row,) = task.encode(scored(4.25)[0], tiny_bert_tokenizer(), 16).rows
        assert row.targets == {"score": 2.5}
        assert task.decode(scored(0)[0], [row], [torch.tensor([2.5])]) == 4.25
        cut = Regression(mean=3, deviation=0.5, range=(0, 4))
        assert [cut.decode(scored(0)[0], [row], [torch.tensor([x])]) for x in (2.5, -99.0, 0.5)] == [4, 0, 3.25]


def test_a_pair_is_one_row():
    task, tokenizer = Regression(columns={"text": "a", "pair": "b"}), tiny_bert_tokenizer()
    (example,) = task.read(records({"a": "It", "b": "a movie", "score": 1}), labelled=True)
    assert task.encode(example, tokenizer, 16).rows[0].input_ids == tokenizer("It", "a movie")["input_ids"]


def test_the_loss_is_the_mean_squared_error():
    loss = Regression().loss(torch.tensor([[1.0], [-2.0]]), {"score": torch.tensor([0.5, 1.0])})
    assert loss.item() == pytest.approx((0.25 + 9) / 2)


def test_the_head_has_one_output():
    assert Regression().build_head(8)(torch.randn(3, 4, 8), torch.ones(3, 4)).shape == (3, 1)


def test_answers():
    task = Regression(mean=100, deviation=1)
    assert task.to_json(scored(0)[0], 1 / 3) == {"id": "0", "score": 0.333333}
    assert task.answer_key(100.001) == task.answer_key(99.999) == "100"
    assert task.answer_key(100.1) != task.answer_key(100)
    assert Regression(mean=0, deviation=1).answer_key(-0.001) == Regression(mean=0, deviation=1).answer_key(0.001)
    assert task.score(scored(1, 2), [10, 20]).main_value == pytest.approx(1)


def test_data_of_any_scale_train_alike():
    """The same data in other units: the same losses, and answers in those units."""
    backbone, runs = tiny_backbone(), []
    for scale, shift in ((1, 0), (1000, 5000)):
        data = [{"text": "Anna visited London " * n, "score": scale * n + shift} for n in (1, 2, 3, 4)]
        options = {"train": data, "dev": data, "epochs": 2, "batch_size": 2, "learning_rate": 1e-2, "progress": False}
        runs.append((fw.train(backbone, fw.PTuningV2(prompt_length=2), Regression(dropout=0), **options), data))
    (plain, _), (scaled, data) = runs
    for one, other in zip(plain.outcome.predictions, scaled.outcome.predictions, strict=True):
        assert other == pytest.approx(1000 * one + 5000, rel=1e-4)
    assert plain.outcome.scores.values == pytest.approx(scaled.outcome.scores.values, abs=1e-4)
    entry = scaled.manifest()
    assert entry.metrics.measures == dict(scaled.outcome.scores.measures)
    assert entry.task.settings["mean"] == 7500
