"""One task: answers in order, whatever the chunks, the batches and the neighbours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.errors import DataError
from foreword.inference.encoding import encode_examples
from foreword.inference.forward import row_logits
from tiny import tiny_backbone
from tiny_artifacts import PAIRS, TASKS, backbone_for, records, tiny_artifact


def predictor_of(task: str = "classification", method: str = "ptuning-v2", **options) -> fw.Predictor:
    return fw.Predictor(load_artifact(tiny_artifact(task, method)), backbone_for(task), **options)


def texts(count: int) -> list[dict[str, str]]:
    """Of different lengths, neither in order of length nor in order of their answers."""
    return [
        {"text": " ".join(["Anna", "visited", "London"][: 1 + n % 3] * (1 + n * 7 % 5)), "id": f"n{n}"}
        for n in range(count)
    ]


def stream(predictor: fw.Predictor, items, chunk: int) -> list[dict]:
    return list(predictor.stream(Source(items=tuple(items)).records(), chunk))


class TestStreaming:
    @pytest.mark.parametrize("chunk", [1, 2, 6, 7, 8, 100])
    def test_order_is_kept_over_the_borders_of_chunks(self, chunk):
        predictor = predictor_of(batch_size=3)
        answers = stream(predictor, texts(14), chunk)
        assert [answer["id"] for answer in answers] == [f"n{n}" for n in range(14)]
        for answer, whole in zip(answers, predictor.predict(texts(14)), strict=True):
            assert answer["label"] == whole["label"]
            assert answer["probabilities"] == pytest.approx(whole["probabilities"], abs=2e-6)

    def test_items_without_a_name_are_numbered_through(self):
        items = [{"text": item["text"]} for item in texts(5)]
        assert [answer["id"] for answer in stream(predictor_of(), items, 2)] == ["0", "1", "2", "3", "4"]

    def test_no_more_is_read_than_a_chunk(self):
        read: list[int] = []

        def endless() -> Iterator[Record]:
            while True:
                read.append(len(read))
                yield Record({"text": "London"}, "endless", len(read))

        answers = predictor_of().stream(endless(), chunk=3)
        for _ in range(4):
            next(answers)
        assert len(read) == 6

    def test_what_came_before_a_bad_record_is_answered(self):
        answers = predictor_of().stream(Source(items=(*texts(3), {"text": ""})).records(), chunk=3)
        assert [next(answers)["id"] for _ in range(3)] == ["n0", "n1", "n2"]
        with pytest.raises(DataError, match="<memory>:4: field 'text': is empty"):
            next(answers)

    def test_nothing(self):
        assert predictor_of().predict([]) == []


class TestNeighbours:
    @pytest.mark.parametrize(
        ("task", "method"), [pair for pair in PAIRS if pair[1] in ("ptuning-v2", "head-only", "fine-tuning")]
    )
    def test_logits_do_not_depend_on_the_batch(self, task, method):
        predictor = predictor_of(task, method)
        items = [Record(item, "tiny", n) for n, item in enumerate(records(task, labelled=False))]
        rows = encode_examples(predictor.task, predictor.task.read(items, labelled=False), predictor.backbone).rows
        assert len({len(row) for row in rows}) > 1
        together = row_logits(predictor.model, rows, batch_size=len(rows))
        for batch_size in (1, 2, 3):
            for one, other in zip(together, row_logits(predictor.model, rows, batch_size=batch_size), strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        for row, expected in zip(rows, together, strict=True):
            torch.testing.assert_close(row_logits(predictor.model, [row])[0], expected, rtol=0, atol=1e-5)

    def test_the_number_of_forward_passes(self):
        predictor, seen = predictor_of(batch_size=4), []
        predictor.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[0]))
        predictor.predict(texts(10))
        assert sorted(seen) == [2, 4, 4]

    def test_training_mode_is_left(self):
        predictor = predictor_of()
        expected = predictor.predict(texts(4))
        predictor.model.train()
        assert predictor.predict(texts(4)) == expected


class TestInputs:
    @pytest.mark.parametrize("item", ["just a text", 5, None, ["text"]])
    def test_no_dictionary(self, item):
        with pytest.raises(DataError, match="<memory>:2: expected a dictionary of fields, found"):
            predictor_of().predict([{"text": "x"}, item])

    def test_a_single_dictionary_in_place_of_a_list(self):
        with pytest.raises(DataError, match="<memory>:1: expected a dictionary of fields, found str 'text'"):
            predictor_of().predict({"text": "x"})

    def test_a_text_in_which_there_is_no_word(self):
        (answer,) = predictor_of("ner").predict([{"text": "\u200b"}])
        assert answer["entities"] == []
        (mixed,) = fw.Engine(tiny_backbone(), {"ner": load_artifact(tiny_artifact("ner", "ptuning-v2"))}).predict(
            [("ner", {"text": "\u200b"})]
        )
        assert mixed == {"task": "ner", **answer}

    def test_what_had_to_be_cut_is_told(self):
        predictor = predictor_of()
        predictor.predict([{"text": "London " * 500}, {"text": "London"}])
        assert predictor.warnings == ["1 inputs truncated"]
        list(predictor.stream(Source(items=({"text": "London " * 500},)).records()))
        assert predictor.warnings == ["2 inputs truncated"]


class TestEvaluating:
    @pytest.mark.parametrize("task", TASKS)
    def test_gives_the_scores_of_training(self, task):
        predictor = predictor_of(task)
        scores = predictor.evaluate(Source(items=tuple(records(task))))
        assert dict(scores.values) == predictor.artifact.manifest.metrics.values
        assert dict(scores.counts) == predictor.artifact.manifest.metrics.counts

    def test_a_label_that_training_never_saw(self):
        with pytest.raises(DataError, match="label 'maybe' does not occur in the training data"):
            predictor_of().evaluate(Source(items=({"text": "x", "label": "maybe"},)))


def test_a_backbone_is_shared_and_not_changed():
    backbone = tiny_backbone()
    before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    first, second = (fw.load(tiny_artifact(task, "ptuning-v2"), backbone) for task in ("classification", "ner"))
    expected = first.predict(texts(3))
    second.predict(records("ner", labelled=False))
    assert first.predict(texts(3)) == expected
    assert first.backbone is second.backbone
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())


def test_nothing_is_left_trainable():
    for method in ("ptuning-v2", "fine-tuning"):
        assert not any(p.requires_grad for p in predictor_of(method=method).backbone.parameters())
