"""A row's answer is its own task's, told by canaries: prompts that answer one text in very different ways."""

from __future__ import annotations

import random

import pytest
import torch

import foreword as fw
from canaries import canary, numbers, same
from foreword.artifacts.format import Artifact, load_artifact
from foreword.injection import Prompt
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact

FAMILIES = {"encoder": "bert", "decoder": "gpt2", "encoder-decoder": "t5"}
TOLERANCE = 1e-5
PROBE = "Anna Smith visited London ."


def classifier(backbone: fw.Backbone, folder, method: fw.PTuningV2, labels: int = 2) -> Artifact:
    data = [{"text": item["text"], "label": str(n % labels)} for n, item in enumerate(records("classification") * 2)]
    task = fw.Classification(pooling="last" if backbone.kind == "decoder" else "mean")
    fw.train(backbone, method, task, train=data, dev=data, progress=False, epochs=1, batch_size=4).save(folder)
    return load_artifact(folder)


def far(one: list[float], other: list[float]) -> bool:
    """Whether two answers cannot be taken for one another."""
    return len(one) != len(other) or max(abs(a - b) for a, b in zip(one, other, strict=True)) > 100 * TOLERANCE


@pytest.mark.parametrize("kind", FAMILIES)
def test_no_row_is_answered_by_another_task(kind, tmp_path):
    """Prompts of three lengths, some from a later layer on, some with other numbers of labels, on random texts."""
    backbone = tiny_backbone(FAMILIES[kind])
    shapes = [
        classifier(backbone, tmp_path / "a", fw.PTuningV2(prompt_length=4)),
        classifier(backbone, tmp_path / "b", fw.PTuningV2(prompt_length=2, layers="1-2"), labels=3),
        classifier(backbone, tmp_path / "c", fw.PTuningV2(prompt_length=7)),
    ]
    artifacts: dict[str, Artifact] = {}
    alone: dict[str, fw.Predictor] = {}
    probes: list[list[float]] = []
    for seed in range(60):  # those that are too much like one that is there are left out
        artifact = canary(shapes[seed % 3], seed)
        predictor = fw.Predictor(artifact, backbone)
        probe = numbers(predictor.predict([{"text": PROBE}])[0])
        if len(artifacts) < 12 and all(far(probe, other) for other in probes):
            artifacts[f"task-{seed}"], alone[f"task-{seed}"] = artifact, predictor
            probes.append(probe)
    assert len(artifacts) == 12
    chance = random.Random(kind)
    words = [
        "the",
        "old",
        "doctor",
        "visited",
        "a",
        "good",
        "movie",
        "in",
        "London",
        "and",
        "Peter",
        "wrote",
        "letters",
    ]
    inputs = [(name, {"text": PROBE}) for name in artifacts]
    for _ in range(36):
        text = " ".join(chance.choices(words, k=chance.randint(1, 25)))
        inputs.append((chance.choice(list(artifacts)), {"text": text}))
    chance.shuffle(inputs)
    engine = fw.Engine(backbone, artifacts)
    answers = engine.predict(inputs)
    for (name, item), answer in zip(inputs, answers, strict=True):
        (expected,) = alone[name].predict([item])
        assert answer["task"] == name
        assert numbers(answer) == pytest.approx(numbers(expected), abs=TOLERANCE)
    jobs = [engine.encode(engine.resolve(name), item) for name, item in inputs]
    for size in (1, 5):
        parts = [engine.run(jobs[i : i + size]) for i in range(0, len(jobs), size)]
        for one, answer in zip((answer for part in parts for answer in part), answers, strict=True):
            assert numbers(one) == pytest.approx(numbers(answer), abs=TOLERANCE)


@pytest.mark.parametrize("task", ["classification", "ner", "qa", "srl", "multi-label", "span-classification"])
def test_heads_of_one_make_are_asked_together_and_answer_for_themselves(task):
    """Eight artifacts with heads of the same shape and other weights, beside some of another task."""
    backbone = tiny_backbone()
    artifacts = {f"task-{n}": canary(load_artifact(tiny_artifact(task)), n) for n in range(8)}
    artifacts["other"] = load_artifact(tiny_artifact("regression"))
    items = records(task, labelled=False)
    inputs = [(f"task-{n % 8}", items[n % 4]) for n in range(16)] + [("other", {"text": PROBE})] * 2
    random.Random(task).shuffle(inputs)
    answers = fw.Engine(backbone, artifacts).predict(inputs)
    for (name, item), answer in zip(inputs, answers, strict=True):
        (expected,) = fw.Predictor(artifacts[name], backbone).predict([item])
        assert same({**answer, "id": "0"}, {"task": name, **expected})


def test_one_text_for_several_tasks_runs_once_below_their_prompts():
    backbone = tiny_backbone()
    artifacts = {
        f"task-{n}": canary(load_artifact(tiny_artifact("ner", "ptuning-v2-some-layers")), n) for n in range(6)
    }
    first = next(iter(backbone.layers.values()))
    rows: list[int] = []
    first.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    item = records("ner", labelled=False)[1]
    answers = fw.Engine(backbone, artifacts).predict([(name, item) for name in artifacts])
    assert rows == [1]
    for name, answer in zip(artifacts, answers, strict=True):
        (expected,) = fw.Predictor(artifacts[name], backbone).predict([item])
        assert same({**answer, "id": "0"}, {"task": name, **expected})


def test_prompts_are_kept_in_the_type_of_the_backbone(tmp_path):
    backbone = tiny_backbone(dtype=torch.bfloat16)
    artifact = classifier(backbone, tmp_path / "a", fw.PTuningV2(prompt_length=4))
    engine = fw.Engine(backbone, {"a": artifact})
    resident = engine.encode(engine.resolve("a"), {"text": PROBE}).parts[0].resident
    (prompt,) = resident.prompts
    assert isinstance(prompt, Prompt)
    assert {tensor.dtype for pair in prompt.prefix.values() for tensor in pair if tensor is not None} == {
        torch.bfloat16
    }
    (answer,) = engine.predict([("a", {"text": PROBE})])
    (expected,) = fw.Predictor(artifact, backbone).predict([{"text": PROBE}])
    assert numbers(answer) == pytest.approx(numbers(expected), abs=1e-2)


def test_what_may_not_be_cut_is_refused():
    engine = fw.Engine(tiny_backbone(), {"a": load_artifact(tiny_artifact())})
    handle, long = engine.resolve("a"), {"text": "word " * 500}
    assert engine.encode(handle, long).notes == ("truncated",)
    with pytest.raises(fw.ForewordError, match="cannot read all of this text") as caught:
        engine.encode(handle, long, truncate=False)
    assert caught.value.code == "input.too-long"
    job = engine.encode(handle, {"text": PROBE}, truncate=False)
    assert (job.rows, job.tokens, job.longest, job.notes) == (1, job.longest, job.tokens, ())
