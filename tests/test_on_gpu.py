"""What is trained and answered on a GPU is what a CPU makes of it, but for rounding."""

from __future__ import annotations

import pytest
import torch
from accelerate import PartialState

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.backbones import Backbone, load_backbone
from foreword.inference.engine import Engine
from foreword.training.prepared import Prepared
from foreword.training.run import TrainedRun, train_prepared
from foreword.training.settings import TrainingSettings
from foreword.training.side_by_side import Planned, train_side_by_side
from tiny import tiny_backbone
from tiny_artifacts import METHODS, TASKS, backbone_for, records, tiny_artifact
from tiny_runs import TASKS as RUNS
from tiny_runs import tiny_data
from tiny_writers import DATA, FAMILIES, SHORT

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")

GPU = torch.device("cuda")
CLOSE = {"rtol": 2e-3, "atol": 2e-4}
"""Sums in another order, over and over."""


@pytest.fixture
def trains_on(monkeypatch):
    """Let training take the CPU or the GPU; accelerate decides once for a process."""

    def choose(device: str) -> None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", str(device == "cpu").lower())
        PartialState._reset_state()

    yield choose
    PartialState._reset_state()


def numbers(answer) -> list[float]:
    """All that is not said in words, in order."""
    if isinstance(answer, dict):
        return [n for value in answer.values() for n in numbers(value)]
    if isinstance(answer, list):
        return [n for value in answer for n in numbers(value)]
    return [answer] if isinstance(answer, float) else []


def planned(backbone: Backbone, method: fw.PTuningV2, task: str, **changes) -> Planned:
    """A run without chance in it."""
    settings = TrainingSettings(**{"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, **changes})
    prepared = Prepared(RUNS[task], tiny_data(RUNS[task], backbone, 24), tiny_data(RUNS[task], backbone, 8), {})
    return Planned(method, prepared, settings)


def same(found: TrainedRun, wanted: TrainedRun) -> None:
    for name, tensor in wanted.model.state().items():
        torch.testing.assert_close(found.model.state()[name], tensor, **CLOSE, msg=name)
    losses = [[one["train_loss"] for one in run.outcome.progress.evaluations] for run in (found, wanted)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


class TestTraining:
    @pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "llama", "t5"])
    @pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}], ids=["", "recomputing"])
    def test_learns_what_a_cpu_learns(self, trains_on, family, changes):
        runs = []
        for device in ("cuda", "cpu"):
            trains_on(device)
            one = planned(tiny_backbone(family), fw.PTuningV2(prompt_length=4, dropout=0), "ner", **changes)
            runs.append(train_prepared(tiny_backbone(family), one.method, one.prepared, one.settings))
            assert runs[-1].model.backbone.device.type == device
        same(*runs)

    def test_side_by_side_is_alone(self, trains_on):
        trains_on("cuda")
        wanted = [("ner", fw.PTuningV2(prompt_length=4)), ("classification", fw.PTuningV2(prompt_length=7))]
        backbone = tiny_backbone()
        together = train_side_by_side(
            backbone, [planned(backbone, method, task, seed=n) for n, (task, method) in enumerate(wanted)]
        )
        for n, ((task, method), found) in enumerate(zip(wanted, together, strict=True)):
            one = planned(tiny_backbone(), method, task, seed=n)
            assert isinstance(found, TrainedRun)
            same(found, train_prepared(tiny_backbone(), one.method, one.prepared, one.settings))

    def test_from_the_trunk_cache(self, trains_on):
        trains_on("cuda")
        method = fw.PTuningV2(prompt_length=4, layers="top-1")
        runs = []
        for place in ("memory", "off"):
            one = planned(tiny_backbone(), method, "ner", trunk_cache=place)
            runs.append(train_prepared(tiny_backbone(), one.method, one.prepared, one.settings))
        assert runs[0].outcome.trunk_cache is not None
        same(*runs)

    def test_int8_is_refused_in_words(self, trains_on):
        trains_on("cuda")
        backbone = load_backbone(tiny_backbone().name, quantization="int8")
        one = planned(backbone, fw.PTuningV2(prompt_length=4), "ner")
        with pytest.raises(fw.errors.BackboneError, match="ACCELERATE_USE_CPU=true"):
            train_prepared(backbone, one.method, one.prepared, one.settings)


class TestAnswers:
    @pytest.mark.parametrize("method", sorted(METHODS))
    def test_of_one_artifact(self, method):
        path, asked = tiny_artifact("classification", method), records("classification", labelled=False)
        found, wanted = (fw.load(path, device=device).predict(asked) for device in ("cuda", "cpu"))
        assert [answer["label"] for answer in found] == [answer["label"] for answer in wanted]
        assert numbers(found) == pytest.approx(numbers(wanted), abs=2e-5)

    @pytest.mark.parametrize("task", sorted(TASKS))
    def test_of_every_task(self, task):
        path, asked = tiny_artifact(task, "ptuning-v2"), records(task, labelled=False)
        on_gpu = load_backbone(backbone_for(task).name, device=GPU, language_model=TASKS[task].needs_language_model)
        found, wanted = fw.load(path, on_gpu).predict(asked), fw.load(path, backbone_for(task)).predict(asked)
        assert numbers(found) == pytest.approx(numbers(wanted), abs=2e-4)

    def test_of_many_tasks_in_one_batch(self):
        kinds = {
            "classification": "ptuning-v2",
            "ner": "ptuning-v2-some-layers",
            "qa": "prompt-tuning",
            "srl": "mixture",
        }
        held = {task: load_artifact(tiny_artifact(task, method)) for task, method in kinds.items()}
        asked = [(task, item) for task in kinds for item in records(task, labelled=False)]
        on_gpu = load_backbone(tiny_backbone().name, device=GPU)
        found, wanted = Engine(on_gpu, held).predict(asked), Engine(tiny_backbone(), held).predict(asked)
        assert [answer["task"] for answer in found] == [answer["task"] for answer in wanted]
        assert numbers(found) == pytest.approx(numbers(wanted), abs=2e-4)

    @pytest.mark.parametrize("family", FAMILIES)
    def test_that_are_written(self, trains_on, family, tmp_path):
        trains_on("cuda")
        run = fw.train(
            tiny_backbone(family, language_model=True), fw.PTuningV2(prompt_length=4), SHORT,
            train=DATA, dev=DATA, progress=False, epochs=2, learning_rate=1e-2,
        )  # fmt: skip
        run.save(tmp_path / "artifact")
        asked = [{"source": item["source"]} for item in DATA]
        found, wanted = (fw.load(tmp_path / "artifact", device=device).predict(asked) for device in ("cuda", "cpu"))
        assert found == wanted
