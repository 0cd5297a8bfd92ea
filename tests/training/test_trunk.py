"""Training with a trunk cache is training without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.caching import MemoryStore, store
from foreword.errors import MethodError
from foreword.inference.predictor import Predictor
from foreword.training.loop import Interrupted
from foreword.training.progress import trunk_words
from foreword.training.settings import TrainingSettings
from tiny import tiny_backbone, tiny_backbone_folder
from tiny_artifacts import records
from tiny_runs import TASKS, Recorder, tiny_trainer

ROOT = Path(__file__).parents[2]
TOP = fw.PTuningV2(prompt_length=4, layers="top-1", dropout=0)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Stores of this test's own."""
    monkeypatch.setattr(store, "_IN_MEMORY", MemoryStore(0))
    monkeypatch.setenv("FOREWORD_CACHE", str(tmp_path / "cache"))


def trained(**options):
    """Losses of all steps, weights in the end, and what the log says of the cache."""
    tracker = Recorder()
    trainer = tiny_trainer(tracker=tracker, **{"method": TOP, "max_grad_norm": 0, **options})
    trainer.fit()
    losses = torch.tensor([step["loss"] for step in tracker.of("step")])
    return losses, trainer.model.state(), tracker.of("end")[0].get("trunk_cache"), trainer


def same(found, wanted, tolerance=1e-4, *, but=()):
    torch.testing.assert_close(found[0], wanted[0], rtol=tolerance, atol=tolerance)
    assert set(but) <= wanted[1].keys()
    for name, weights in ((name, weights) for name, weights in wanted[1].items() if name not in but):
        torch.testing.assert_close(found[1][name], weights, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "albert", "gpt2", "llama", "t5", "bart"])
def test_the_same_run(family):
    wanted = trained(family=family, trunk_cache="off")
    found = trained(family=family, trunk_cache="memory")
    same(found, wanted)
    assert wanted[2] is None
    # 24 rows of training in 2 epochs and 8 of dev in 3 evaluations, all but the first time from the cache
    rows = 2 * 24 + 3 * 8
    assert found[2]["hits"] + found[2]["misses"] == rows
    assert found[2]["misses"] <= 24 + 8
    assert found[2]["layer"] == 2


UNDECIDED = {"multiple-choice": ["head.layers.1.bias"], "qa": ["head.linear.bias"]}
"""Added to all that one softmax chooses from: their gradient is zero but for rounding, of which Adam makes steps."""


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task(task):
    """Heads on the last layer, on every layer, on answers, on rows that stand together."""
    options = {"task": task}
    same(trained(trunk_cache="memory", **options), trained(trunk_cache="off", **options), but=UNDECIDED.get(task, ()))


METHODS = {
    "two layers": (fw.PTuningV2(prompt_length=3, layers=(1, 2), dropout=0), 1),
    "gate": (fw.PTuningV2(prompt_length=3, layers="2", gate=True, dropout=0), 2),
    "mixture": (fw.MixtureOfPrompts(of=TOP, count=2), 2),
    "head alone": (fw.HeadOnly(), 3),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_leaves_lower_layers(method):
    settings, layer = METHODS[method]
    found = trained(method=settings, trunk_cache="memory")
    same(found, trained(method=settings, trunk_cache="off"))
    assert found[2]["layer"] == layer


def test_in_bfloat16():
    """States rounded to bfloat16 where all is computed in it."""
    options = {"precision": "bf16", "learning_rate": 1e-3}
    same(trained(trunk_cache="memory", **options), trained(trunk_cache="off", **options), 0.05)


def test_recomputing_and_accumulating():
    options = {"gradient_checkpointing": True, "accumulation_steps": 2}
    same(trained(trunk_cache="memory", **options), trained(trunk_cache="off", **options))


def test_runs_of_a_process_share_what_is_known():
    """A sweep computes the trunk once. With what another run left, a run is bit for bit what it is alone."""
    alone, after = trained(seed=11), trained(seed=12)
    assert after[2]["misses"] == 0
    again = trained(seed=11)
    assert again[2]["misses"] == 0
    same(again, alone, 0)


def test_taking_up_a_run_gives_the_bits_of_one_that_was_not_interrupted(tmp_path):
    """Texts are computed in another order then, and beside others."""
    whole = trained(seed=3)
    stopping = Recorder(lambda kind, step: os.kill(os.getpid(), signal.SIGINT) if (kind, step) == ("step", 5) else None)
    options = {"method": TOP, "max_grad_norm": 0, "seed": 3, "checkpoint": tmp_path / "state"}
    with pytest.raises(Interrupted):
        tiny_trainer(tracker=stopping, **options).fit()
    store._IN_MEMORY = MemoryStore(0)
    trainer = tiny_trainer(**options)
    trainer.resume()
    trainer.fit()
    for name, weights in whole[1].items():
        assert torch.equal(trainer.model.state()[name], weights)


def test_too_little_room_is_no_harm():
    found = trained(trunk_cache_bytes="1KB")
    same(found, trained(trunk_cache="off"))
    assert found[2]["bytes"] <= 1000
    assert found[2]["misses"] > 32


@pytest.mark.parametrize(("settings", "has"), [({}, True), ({"backbone_dropout": 0.1}, False)])
def test_left_to_itself(settings, has):
    """It is there where nothing is lost; not with dropout in the lower layers, nor where they are trained."""
    assert (trained(**settings)[2] is not None) is has
    assert trained(method=fw.PTuningV2(prompt_length=4), **settings)[2] is None


def test_with_dropout_where_it_is_asked_for():
    assert trained(backbone_dropout=0.1, trunk_cache="memory")[2] is not None


LOW = [fw.PTuningV2(prompt_length=4), fw.PromptTuning(prompt_length=3), fw.FineTuning(), fw.BitFit(), fw.Adapter()]


@pytest.mark.parametrize("method", LOW, ids=lambda method: method.name)
def test_refused_where_the_first_layer_is_trained(method):
    with pytest.raises(MethodError, match=r"begins at the first layer .* Leave the trunk cache off"):
        tiny_trainer(method=method, trunk_cache="disk")
    assert tiny_trainer(method=method, trunk_cache="off").model.trunk is None


@pytest.mark.parametrize("damage", ["remove", "cut", "garbage"])
def test_a_folder_that_is_damaged_while_it_is_used(tmp_path, damage):
    files = tmp_path / "cache" / "trunk"

    def spoil(kind: str, step: int) -> None:
        if kind == "step" and step in (7, 9):
            for number, path in enumerate(sorted(path for path in files.rglob("*") if path.is_file())):
                if number % 2:
                    content = path.read_bytes()
                    changed = {"cut": content[:40], "garbage": os.urandom(len(content)), "remove": None}[damage]
                    path.unlink() if changed is None else path.write_bytes(changed)

    tracker = Recorder(spoil)
    trainer = tiny_trainer(method=TOP, tracker=tracker, trunk_cache="disk", max_grad_norm=0)
    trainer.fit()
    wanted = trained(trunk_cache="memory")
    same((torch.tensor([s["loss"] for s in tracker.of("step")]), trainer.model.state()), wanted, 0)
    assert tracker.of("end")[0]["trunk_cache"]["misses"] > wanted[2]["misses"]


def test_processes_share_a_folder(tmp_path):
    """What one has computed the other finds, though it has loaded the backbone for itself."""
    folder = tiny_backbone_folder("bert", tmp_path / "model")
    program = (
        "import foreword as fw\n"
        f"backbone = fw.load_backbone({str(folder)!r})\n"
        "data = [{'text': f'text {n}', 'label': 'ab'[n % 2]} for n in range(8)]\n"
        "method = fw.PTuningV2(prompt_length=2, layers='top-1')\n"
        "options = {'epochs': 1, 'progress': False, 'trunk_cache': 'disk'}\n"
        "run = fw.train(backbone, method, fw.Classification(), train=data, dev=data, **options)\n"
        "misses = run.outcome.trunk_cache['misses']\n"
    )
    ours: dict[str, int] = {}
    exec(program, ours)
    assert ours["misses"] == 8
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", f"{program}print(misses)"]
    theirs = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert theirs.stdout.split()[-1] == "0"


def test_prediction_finds_what_training_computed(tmp_path):
    backbone, data = tiny_backbone(), records("classification")
    run = fw.train(
        backbone, TOP, fw.Classification(), train=data, dev=data, epochs=1, progress=False, trunk_cache="disk"
    )
    run.save(tmp_path / "artifact")
    artifact = load_artifact(tmp_path / "artifact")
    facts = artifact.manifest.training.trunk_cache
    assert facts is not None
    assert facts["layer"] == 2
    cached = Predictor(artifact, tiny_backbone(), trunk_cache="disk")
    assert cached.predict(data) == Predictor(artifact, backbone).predict(data)
    assert cached.model.trunk.misses == 0
    low = fw.train(backbone, fw.PTuningV2(), fw.Classification(), train=data, dev=data, epochs=1, progress=False)
    low.save(tmp_path / "low")
    with pytest.raises(MethodError, match="first layer"):
        Predictor(load_artifact(tmp_path / "low"), backbone, trunk_cache="memory")


def test_settings():
    assert TrainingSettings(trunk_cache_bytes="1.5GB").trunk_cache_bytes == 1_500_000_000
    assert TrainingSettings(trunk_cache_bytes=7).trunk_cache_bytes == 7
    for wrong in ("much", "-1MB", 0):
        with pytest.raises(ValueError, match="trunk_cache_bytes"):
            TrainingSettings(trunk_cache_bytes=wrong)


def test_in_words():
    told = {"trunk_cache": {"layer": 2, "hits": 83, "misses": 17, "bytes": 412_000_000}}
    assert trunk_words(told) == "  trunk cache: 83% hits, 412 MB"
    assert trunk_words({}) == ""
