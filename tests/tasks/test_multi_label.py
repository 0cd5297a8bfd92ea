from __future__ import annotations

import math

import pytest
import torch

import foreword as fw
from foreword.data.examples import LabelsExample
from foreword.data.records import Record
from foreword.errors import DataError, TaskError
from foreword.tasks import MultiLabel
from tiny import tiny_backbone, tiny_bert_tokenizer

ABC = MultiLabel(labels=("a", "b", "c"))


def records(*fields):
    return [Record(each, "data.jsonl", number) for number, each in enumerate(fields, 1)]


def labels_of(value, **settings):
    (example,) = MultiLabel(**settings).read(records({"text": "x", "labels": value}), labelled=True)
    return example.labels


def example(*labels):
    return LabelsExample(id="1", text="It", labels=labels)


class TestLabels:
    @pytest.mark.parametrize(
        ("value", "labels"),
        [(["b", "a"], ("b", "a")), ([], ()), ([1, True, "x"], ("1", "true", "x")), (["a", "a"], ("a",))],
    )
    def test_in_a_list(self, value, labels):
        assert labels_of(value) == labels

    @pytest.mark.parametrize(
        ("value", "labels"), [("a|b", ("a", "b")), (" a | b c ", ("a", "b c")), ("", ()), ("|", ()), ("a", ("a",))]
    )
    def test_in_one_text(self, value, labels):
        assert labels_of(value, separator="|") == labels

    def test_a_list_is_a_list_also_with_a_separator(self):
        assert labels_of(["a|b", "c"], separator="|") == ("a|b", "c")

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            (None, "expected a list of labels, found None"),
            ("a,b", "expected a list of labels, found the text 'a,b'. Where one text .* task.separator"),
            ({"a": 1}, "expected a list of labels, found"),
            (["a", 1.5], "expected labels .*, found 1.5"),
            (["a", " "], "expected labels .*, found ' '"),
            ([None], "expected labels .*, found None"),
        ],
    )
    def test_what_are_none(self, value, says):
        with pytest.raises(DataError, match=rf"data\.jsonl:1: field 'labels': {says}"):
            labels_of(value)

    def test_are_found_in_order(self):
        task = MultiLabel().with_labels_from([example("10", "x"), example(), example("9", "x")])
        assert task.labels == ("9", "10", "x")
        assert ABC.with_labels_from([example("z")]) is ABC

    def test_none_at_all(self):
        with pytest.raises(TaskError, match="no training example has a label under 'labels'"):
            MultiLabel().with_labels_from([example(), example()])

    def test_an_unseen_one_is_refused_where_it_stands(self):
        dev = records({"text": "x", "labels": ["a"]}, {"text": "x", "labels": ["c", "new", "newer"]})
        with pytest.raises(DataError) as caught:
            ABC.check_labels(dev, ABC.read(dev, labelled=True))
        assert str(caught.value) == (
            "data.jsonl:2: field 'labels': label 'new' does not occur in the training data (nor do 1 others). "
            "Known labels: a, b, c"
        )


def test_a_row_has_a_target_for_every_label():
    tokenizer = tiny_bert_tokenizer()
    assert ABC.encode(example("c", "a"), tokenizer, 16).rows[0].targets == {"labels": [1, 0, 1]}
    assert ABC.encode(example(), tokenizer, 16).rows[0].targets == {"labels": [0, 0, 0]}
    assert ABC.encode(LabelsExample(id="1", text="It"), tokenizer, 16).rows[0].targets == {}


def test_the_loss_is_of_every_label_alone():
    logits, targets = [[1.0, -2.0, 0.0], [0.5, 3.0, -1.0]], [[1, 0, 0], [0, 1, 1]]
    each = [
        -math.log(1 / (1 + math.exp(-score if target else score)))
        for row, wanted in zip(logits, targets, strict=True)
        for score, target in zip(row, wanted, strict=True)
    ]
    loss = ABC.loss(torch.tensor(logits), {"labels": torch.tensor(targets)})
    assert loss.item() == pytest.approx(sum(each) / 6, rel=1e-6)


def test_probabilities_are_of_every_label_alone():
    found = ABC.decode(example(), (), [torch.tensor([0.0, math.log(3), -math.log(4)])])
    assert found == pytest.approx({"a": 0.5, "b": 0.75, "c": 0.2})
    assert ABC.to_json(example(), found) == {
        "id": "1",
        "labels": ["a", "b"],
        "probabilities": {"a": 0.5, "b": 0.75, "c": 0.2},
    }
    assert ABC.answer_key(found) == "a, b"


class TestThreshold:
    SURE = ({"a": 0.3, "b": 0.1, "c": 0.1}, {"a": 0.1, "b": 0.2, "c": 0.1})

    def test_is_chosen_on_dev(self):
        examples = [example("a"), example("b")]
        assert ABC.score(examples, self.SURE).main_value == 0
        settled = ABC.settle(examples, self.SURE)
        assert settled.threshold == pytest.approx(0.15)
        assert settled.score(examples, self.SURE).main_value == 1
        assert settled.to_json(examples[0], self.SURE[0])["labels"] == ["a"]
        assert ABC.threshold is None

    def test_is_kept_where_it_is_set(self):
        task = MultiLabel(labels=("a", "b", "c"), threshold=0.25)
        assert task.settle([example("a"), example("b")], self.SURE) is task
        assert [task.answer_key(sure) for sure in self.SURE] == ["a", ""]

    def test_the_artifact_records_it_and_answers_by_it(self, tmp_path):
        data = [{"text": "Anna visited London " * n, "labels": ["long"] if n > 3 else []} for n in range(1, 5)]
        run = fw.train(
            tiny_backbone(), fw.PTuningV2(prompt_length=2), MultiLabel(), train=data, dev=data, epochs=1, progress=False
        )
        run.save(tmp_path / "a")
        predictor = fw.load(tmp_path / "a", tiny_backbone())
        assert run.prepared.task.threshold is None
        assert predictor.task.threshold == run.outcome.task.threshold is not None
        for answer in predictor.predict(data):
            given = answer["probabilities"]["long"] >= predictor.task.threshold
            assert answer["labels"] == ["long"] * given
