"""Runs side by side are what they are alone."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import torch

import foreword as fw
from foreword.caching import MemoryStore, store
from foreword.errors import ForewordError, MethodError
from foreword.methods import Method
from foreword.training.loop import Diverged, Interrupted
from foreword.training.prepared import Prepared
from foreword.training.run import Keeping, TrainedRun, train_prepared
from foreword.training.settings import TrainingSettings
from foreword.training.side_by_side import Planned, train_side_by_side
from tiny import tiny_backbone
from tiny_artifacts import records
from tiny_runs import TASKS, Recorder, tiny_data

LENGTH_4 = fw.PTuningV2(prompt_length=4)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A store of this test's own."""
    monkeypatch.setattr(store, "_IN_MEMORY", MemoryStore(0))


def plan(
    backbone, method: Method = LENGTH_4, task="classification", *, rows=24, tracker=None, checkpoint=None, **changes
):
    """A run with dropout in prompt and head, as they are by default."""
    task = TASKS[task]
    if "dropout" in type(task).model_fields:
        task = task.model_copy(update={"dropout": 0.1})
    settings = TrainingSettings(**{"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, **changes})
    prepared = Prepared(task, tiny_data(task, backbone, rows), tiny_data(task, backbone, 8), {})
    return Planned(method, prepared, settings, Keeping(tracker, checkpoint))


def alone(backbone, planned: Planned) -> TrainedRun:
    return train_prepared(backbone, planned.method, planned.prepared, planned.settings, tracker=planned.keeping.tracker)


def same(found: TrainedRun, wanted: TrainedRun, tolerance=1e-4, *, but=()):
    """All weights, losses and scores."""
    weights, expected = found.model.state(), wanted.model.state()
    assert weights.keys() == expected.keys()
    for name in expected.keys() - set(but):
        torch.testing.assert_close(weights[name], expected[name], rtol=tolerance, atol=tolerance, msg=name)
    progress, expected_progress = found.outcome.progress, wanted.outcome.progress
    assert (progress.step, progress.epoch, progress.tokens) == (
        expected_progress.step,
        expected_progress.epoch,
        expected_progress.tokens,
    )
    assert progress.best_step == expected_progress.best_step
    losses, expected_losses = (
        torch.tensor([one["train_loss"] for one in run.evaluations]) for run in (progress, expected_progress)
    )
    torch.testing.assert_close(losses, expected_losses, rtol=tolerance, atol=tolerance)
    assert found.outcome.scores.values == pytest.approx(wanted.outcome.scores.values, abs=tolerance)


def compared(plans, family="bert", **options):
    """Side by side on one backbone, and each alone on another."""
    found = train_side_by_side(backbone := tiny_backbone(family), [make(backbone) for make in plans])
    for number, (run, make) in enumerate(zip(found, plans, strict=True)):
        assert isinstance(run, TrainedRun), (number, run)
        backbone = tiny_backbone(family)
        same(run, alone(backbone, make(backbone)), **options)
    return found


def making(*args, **changes):
    return lambda backbone: plan(backbone, *args, **changes)


DIFFERENT = [
    making(),
    making(seed=12, learning_rate=3e-2),
    making(fw.PTuningV2(prompt_length=7, layers="top-2"), task="ner", batch_size=3),
    making(fw.PTuningV2(prompt_length=3, reparameterization="mlp", mlp_hidden=8), epochs=3, schedule="cosine"),
    making(fw.HeadOnly(), epochs=1),
]


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_each_is_its_single_run(family):
    """Other seeds, lengths, rates, layers, reparameterizations, tasks, batch sizes and ends."""
    compared(DIFFERENT, family)


KINDS = {
    "gate": fw.PTuningV2(prompt_length=3, gate=True, shift_positions=True),
    "prefix-tuning": fw.PrefixTuning(prompt_length=3, mlp_hidden=8, init="vocabulary"),
    "input": fw.PromptTuning(prompt_length=5),
    "anchors": fw.PTuning(template=(2, "text", 1), reparameterization="mlp", hidden=8),
    "deltas": fw.LayerDeltas(prompt_length=3, placement="after-first"),
    "mixture": fw.MixtureOfPrompts(of=fw.PTuningV2(prompt_length=3), count=2),
    "combined": fw.Combined(parts=(fw.PTuningV2(prompt_length=2), fw.PromptTuning(prompt_length=3))),
}


def test_every_kind_of_prompt():
    compared([making(method, seed=number) for number, method in enumerate(KINDS.values())])


UNDECIDED = ["head.layers.1.bias", "head.linear.bias"]
"""Of heads that choose from one softmax: their gradient is zero but for rounding, of which Adam makes steps."""


def test_every_task():
    """Heads on the last layer and on all, on answers, and on rows that stand together."""
    compared([making(task=name, batch_size=2, epochs=1) for name in sorted(TASKS) if name != "probing"], but=UNDECIDED)


@pytest.mark.parametrize(
    "changes",
    [
        {"accumulation_steps": 3, "evaluate_every_steps": 2},
        {"tokens_at_once": 9},
        {"gradient_checkpointing": True},
        {"early_stopping_patience": 1, "epochs": 6, "learning_rate": 1e-9, "head_learning_rate": 1e-9},
    ],
    ids=["accumulating", "in-pieces", "recomputing", "stopping-early"],
)
def test_beside_a_run_of_other_steps(changes):
    shared = {"gradient_checkpointing": True} if "gradient_checkpointing" in changes else {}
    first, second = compared([making(**changes), making(seed=3, **shared)])
    if "early_stopping_patience" in changes:
        assert (first.outcome.progress.step, second.outcome.progress.step) == (12, 12)


def test_in_bfloat16():
    options = {"precision": "bf16", "learning_rate": 1e-3}
    compared([making(**options), making(task="ner", seed=5, **options)], tolerance=0.02)


def test_one_pass_for_all():
    """Of K runs of 12 steps there are 12 passes of the backbone, with the rows of all."""
    assert [rows for rows, _ in passes({}, {}, {})] == [12] * 12


def test_only_as_many_in_a_pass_as_are_computed_at_once():
    together = passes({}, {}, {}, {})
    most = max(rows * tokens for rows, tokens in together) // 2
    apart = passes({}, {"tokens_at_once": most}, {}, {})  # of one of them, whichever
    assert max(rows * tokens for rows, tokens in apart) <= most
    assert len(together) < len(apart) < 4 * len(together)
    assert sum(rows for rows, _ in apart) == sum(rows for rows, _ in together)


def passes(*settings):
    """Rows of every training pass, and their length, of runs with these settings."""
    backbone, found = tiny_backbone(), []
    backbone.register_forward_pre_hook(
        lambda module, inputs: found.append(tuple(inputs[0].shape)) if torch.is_grad_enabled() else None
    )
    train_side_by_side(backbone, [plan(backbone, seed=seed, **own) for seed, own in enumerate(settings)])
    return found


def test_a_single_one_is_bit_for_bit_the_single_run():
    options = {"backbone_dropout": 0.1, "attention_dropout": 0.1}
    compared([making(**options)], tolerance=0)


class TestTrunkCache:
    TOP = fw.PTuningV2(prompt_length=4, layers="top-1")

    def test_of_one_layer(self):
        found = compared([making(self.TOP), making(self.TOP, seed=5), making(self.TOP, seed=6, task="ner")])
        for run in found:
            facts = run.outcome.trunk_cache
            assert facts["layer"] == 2
            assert facts["hits"] + facts["misses"] == 2 * 24 + 3 * 8
        assert found[0].outcome.trunk_cache["misses"] + found[1].outcome.trunk_cache["misses"] <= 32

    def test_of_other_layers_and_without(self):
        found = compared(
            [
                making(self.TOP),
                making(fw.PTuningV2(prompt_length=4, layers="top-2"), seed=5),
                making(seed=6),
                making(fw.HeadOnly(), task="classification", seed=7),
                making(self.TOP, seed=8, trunk_cache="off"),
            ]
        )
        layers = [run.outcome.trunk_cache and run.outcome.trunk_cache["layer"] for run in found]
        assert layers == [2, 1, None, 3, None]


class TestEnds:
    def test_a_run_that_diverges_leaves_the_others(self):
        backbone = tiny_backbone()
        plans = [plan(backbone, learning_rate=1e30), plan(backbone, seed=2)]
        lost, found = train_side_by_side(backbone, plans)
        assert isinstance(lost, Diverged)
        same(found, alone(tiny_backbone(), plans[1]))

    def test_so_does_one_whose_tracker_has_seen_enough(self):
        class Enough(Exception):
            pass

        def look(kind, step):
            if (kind, step) == ("step", 4):
                raise Enough

        backbone = tiny_backbone()
        found, lost = train_side_by_side(backbone, [plan(backbone), plan(backbone, tracker=Recorder(look))])
        assert isinstance(lost, Enough)
        same(found, alone(tiny_backbone(), plan(backbone)))

    @pytest.mark.parametrize("stop", [2, 7])
    def test_interrupted_and_taken_up_again(self, stop, tmp_path):
        """Also where one is over by then, with dropout in prompts, heads and backbone."""

        def plans(backbone, watch=None):
            shared = {"backbone_dropout": 0.1}
            return [
                plan(backbone, tracker=watch, checkpoint=tmp_path / "0", **shared),
                plan(backbone, epochs=1, seed=3, checkpoint=tmp_path / "1", **shared),
                plan(backbone, task="ner", seed=4, checkpoint=tmp_path / "2", **shared),
            ]

        backbone = tiny_backbone()
        whole = train_side_by_side(backbone, plans(backbone))
        watch = Recorder(lambda kind, at: os.kill(os.getpid(), signal.SIGINT) if (kind, at) == ("step", stop) else None)
        with pytest.raises(Interrupted, match=f"after {stop} steps"):
            train_side_by_side(backbone, plans(backbone, watch))
        torch.manual_seed(999)
        again = [replace(one, keeping=replace(one.keeping, resume=True)) for one in plans(backbone)]
        for found, wanted in zip(train_side_by_side(backbone, again), whole, strict=True):
            same(found, wanted, 0)

    def test_random_numbers_outside_go_on_as_if_nothing_had_been(self):
        backbone = tiny_backbone()
        plans = [plan(backbone, epochs=1), plan(backbone, epochs=1)]
        torch.manual_seed(5)
        wanted = torch.rand(3)
        torch.manual_seed(5)
        train_side_by_side(backbone, plans)
        assert torch.equal(torch.rand(3), wanted)


class TestSeeds:
    """`foreword.train_seeds`."""

    def seeds(self, *seeds, method=LENGTH_4, **options):
        data = records("classification")
        task, progress = fw.Classification(), options.pop("progress", False)
        return fw.train_seeds(
            tiny_backbone(), method, task, seeds, train=data, dev=data, epochs=2, progress=progress, **options
        )

    def test_each_is_the_run_of_its_seed(self, capsys):
        data = records("classification")
        for seed, run in zip((3, 4), self.seeds(3, 4, progress=True), strict=True):
            own = fw.train(
                tiny_backbone(),
                LENGTH_4,
                fw.Classification(),
                train=data,
                dev=data,
                epochs=2,
                seed=seed,
                progress=False,
            )
            same(run, own)
        lines = capsys.readouterr().err.splitlines()
        assert sorted(line.partition(": ")[0] for line in lines) == ["seed 3"] * 4 + ["seed 4"] * 4

    def test_what_ended_one_is_raised(self):
        with pytest.raises(Diverged):
            self.seeds(3, 4, learning_rate=1e30)

    def test_no_seed(self):
        with pytest.raises(ForewordError, match="no seed"):
            self.seeds()

    def test_a_method_that_changes_the_backbone(self):
        with pytest.raises(MethodError, match="'lora' puts modules into the backbone"):
            self.seeds(3, 4, method=fw.LoRA())


class TestRefused:
    @pytest.mark.parametrize("method", [fw.FineTuning(), fw.BitFit(), fw.LNTuning()], ids=lambda method: method.name)
    def test_what_trains_the_backbone(self, method):
        self.refused(f"method.type: '{method.name}' trains weights of the backbone itself", method=method)

    @pytest.mark.parametrize("method", [fw.LoRA(), fw.IA3(), fw.Adapter()], ids=lambda method: method.name)
    def test_what_puts_modules_into_it(self, method):
        self.refused(f"method.type: '{method.name}' puts modules into the backbone", method=method)

    @pytest.mark.parametrize(
        "changes", [{"precision": "bf16"}, {"backbone_dropout": 0.1}, {"attention_dropout": 0.1}], ids=str
    )
    def test_another_pass_of_the_backbone(self, changes):
        self.refused(f"training.{next(iter(changes))}: runs side by side share one pass", **changes)

    def refused(self, match, **changes):
        backbone = tiny_backbone()
        with pytest.raises(MethodError, match=match):
            train_side_by_side(backbone, [plan(backbone), plan(backbone, **changes)])

    def test_written_answers(self):
        backbone = tiny_backbone("gpt2", language_model=True)
        task = fw.TextToText(labels=("Germany", "London"))
        one = plan(backbone)
        data = Prepared(task, one.prepared.train, one.prepared.dev, {})
        with pytest.raises(MethodError, match="answers of 'text-to-text' are written"):
            train_side_by_side(backbone, [one, Planned(one.method, data, one.settings)])
