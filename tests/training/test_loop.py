from __future__ import annotations

import json
import math
import signal
from typing import ClassVar

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from foreword.data.batching import Encoded
from foreword.errors import CheckpointError, ForewordError
from foreword.methods import FineTuning, HeadOnly, PTuningV2
from foreword.metrics.scores import Scores
from foreword.tasks import Classification
from foreword.training import checkpoint as checkpoints
from foreword.training.loop import Interrupted
from foreword.training.schedules import rate_factor
from foreword.training.settings import TrainingSettings
from tiny_runs import TASKS, Recorder, interrupt_at, tiny_trainer

NO_DROPOUT = PTuningV2(prompt_length=4, dropout=0)
RUNS = {
    "plain": {},
    "dropout": {"backbone_dropout": 0.2, "attention_dropout": 0.1},
    "accumulation": {"accumulation_steps": 2, "rows": 23},
    "tokens": {"batch_tokens": 40, "accumulation_steps": 2},
    "evaluate-every-steps": {"evaluate_every_steps": 5},
    "cosine": {"schedule": "cosine", "warmup_ratio": 0.3, "weight_decay": 0.1},
    "bf16": {"precision": "bf16"},
    "gradient-checkpointing": {"gradient_checkpointing": True, "backbone_dropout": 0.2},
    "mlp": {"method": PTuningV2(prompt_length=3, reparameterization="mlp", mlp_hidden=8)},
    "fine-tuning": {"method": FineTuning(), "backbone_dropout": 0.1},
    "ner": {"task": "ner"},
    "qa": {"task": "qa"},
}


def finished(trainer):
    """Everything that two runs must have in common, once they are over."""
    outcome = trainer.fit()
    progress = outcome.progress
    entries = [{k: v for k, v in entry.items() if k != "seconds"} for entry in progress.evaluations]
    moments = {
        f"{number}.{slot}": tensor
        for number, slots in trainer.optimizer.state_dict()["state"].items()
        for slot, tensor in slots.items()
    }
    numbers = (progress.epoch, progress.step, progress.best_step, progress.tokens, entries)
    return trainer.model.state() | moments, (numbers, outcome.scores, outcome.predictions)


def identical(one, other):
    assert one[0].keys() == other[0].keys()
    assert [name for name, tensor in one[0].items() if not torch.equal(tensor, other[0][name])] == []
    assert one[1] == other[1]


def computed(trainer):
    """The pieces of the first step."""
    [lane] = trainer.lanes
    return [piece for rows in trainer.stream.epoch(0)[0].parts for piece in lane.pieces(rows, trainer.most_tokens)]


class TestSameBits:
    @pytest.mark.parametrize("run", RUNS)
    def test_the_same_seed_twice(self, run):
        identical(finished(tiny_trainer(**RUNS[run])), finished(tiny_trainer(**RUNS[run])))

    def test_another_seed_is_another_run(self):
        one, other = (finished(tiny_trainer(seed=seed))[0] for seed in (1, 2))
        assert not torch.equal(one["prompt.prompt.weight"], other["prompt.prompt.weight"])

    @pytest.mark.parametrize("run", RUNS)
    @pytest.mark.parametrize("stop", [2, 6])
    def test_an_interrupted_run_goes_on_as_if_nothing_had_been(self, run, stop, tmp_path):
        settings, path = {"epochs": 3, **RUNS[run]}, tmp_path / "checkpoint"
        whole = finished(tiny_trainer(**settings))
        first = tiny_trainer(**settings, tracker=interrupt_at(stop), checkpoint=path)
        with pytest.raises(Interrupted):
            first.fit()
        assert first.progress.step == stop
        torch.manual_seed(999)
        second = tiny_trainer(**settings, checkpoint=path)
        second.resume()
        assert second.progress.step == stop
        identical(finished(second), whole)

    def test_a_run_interrupted_at_every_step(self, tmp_path):
        settings = {"backbone_dropout": 0.2, "evaluate_every_steps": 2, "checkpoint": tmp_path / "c"}
        whole = finished(tiny_trainer(**settings))
        (tmp_path / "c").unlink()
        for step in range(1, 13):
            trainer = tiny_trainer(**settings, tracker=interrupt_at(step))
            if step > 1:
                trainer.resume()
            with pytest.raises(Interrupted):
                trainer.fit()
        last = tiny_trainer(**settings)
        last.resume()
        identical(finished(last), whole)

    def test_a_finished_run_stays_finished(self, tmp_path):
        whole = finished(tiny_trainer(checkpoint=tmp_path / "c"))
        again = tiny_trainer(checkpoint=tmp_path / "c")
        again.resume()
        identical(finished(again), whole)
        assert again.tracker.of("step") == []

    def test_keeping_a_checkpoint_and_listening_change_nothing(self, tmp_path):
        identical(finished(tiny_trainer(checkpoint=tmp_path / "c")), finished(tiny_trainer()))

    def test_gradient_checkpointing_changes_nothing(self):
        identical(finished(tiny_trainer(gradient_checkpointing=True)), finished(tiny_trainer()))


class TestInterruption:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_says_where_it_stopped_and_gives_the_signals_back(self, number, tmp_path):
        before = signal.getsignal(number)
        trainer = tiny_trainer(tracker=interrupt_at(3, number=number), checkpoint=tmp_path / "c")
        with pytest.raises(Interrupted, match="stopped after 3 steps; saved to") as caught:
            trainer.fit()
        assert (caught.value.step, caught.value.checkpoint) == (3, tmp_path / "c")
        assert signal.getsignal(number) is before
        assert [path.name for path in tmp_path.iterdir()] == ["c"]

    def test_without_a_checkpoint_it_still_stops(self):
        with pytest.raises(Interrupted, match=r"^stopped after 2 steps$"):
            tiny_trainer(tracker=interrupt_at(2)).fit()

    def test_resuming_without_a_checkpoint_file_is_a_mistake_of_the_caller(self):
        with pytest.raises(ValueError, match="keeps no checkpoint"):
            tiny_trainer().resume()


class TestCheckpointFile:
    @pytest.fixture
    def path(self, tmp_path):
        with pytest.raises(Interrupted):
            tiny_trainer(tracker=interrupt_at(1), checkpoint=tmp_path / "c").fit()
        return tmp_path / "c"

    def refused(self, path, match, **settings):
        with pytest.raises(CheckpointError, match=match):
            tiny_trainer(checkpoint=path, **settings).resume()

    def rewritten(self, path, change):
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["foreword"])
        change(header)
        save_file(load_file(path), path, {"foreword": json.dumps(header)})

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "c", "no checkpoint to resume from")

    def test_of_another_recipe(self, path):
        self.refused(path, "belongs to another recipe or other data", recipe="other")

    @pytest.mark.parametrize("keep", [0, 5, 200, -1])
    def test_cut_short(self, path, keep):
        path.write_bytes(path.read_bytes()[:keep])
        self.refused(path, "damaged")

    def test_something_else(self, path):
        path.write_text("not a checkpoint")
        self.refused(path, "damaged")

    def test_tensors_of_someone_else(self, path):
        save_file({"x": torch.zeros(2)}, path)
        self.refused(path, "damaged")

    def test_another_version(self, path):
        self.rewritten(path, lambda header: header.update(version=checkpoints.VERSION + 1))
        self.refused(path, f"has version {checkpoints.VERSION + 1}, expected {checkpoints.VERSION}")

    def test_unknown_progress(self, path):
        self.rewritten(path, lambda header: header["progress"].update(mood=1))
        self.refused(path, "damaged or not a checkpoint of this version")

    def test_a_failed_write_leaves_the_old_one(self, path, monkeypatch):
        def fail(tensors, target, metadata):
            target.write_bytes(b"half")
            raise OSError("disk full")

        before = path.read_bytes()
        monkeypatch.setattr(checkpoints, "save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            tiny_trainer(checkpoint=path).fit()
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


class Scripted(Classification):
    """Classification whose dev scores are given in advance; the last one stays."""

    script: ClassVar[list[float]] = []

    def score(self, examples, predictions):
        value = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return Scores({"accuracy": value}, {"examples": len(examples)}, "accuracy")


def scripted(values, **settings):
    Scripted.script[:] = values
    task = Scripted(labels=("Germany", "London"), dropout=0)
    states = []
    recorder = Recorder(lambda kind, _: states.append(trainer.model.state()) if kind == "evaluation" else None)
    trainer = tiny_trainer(task=task, tracker=recorder, **settings)
    return trainer, states


class TestSelection:
    def test_the_best_weights_are_restored(self):
        trainer, states = scripted([0.2, 0.9, 0.5, 0.5, 0.9], epochs=4)
        outcome = trainer.fit()
        assert len(states) == 4
        assert not torch.equal(states[1]["prompt.prompt.weight"], states[3]["prompt.prompt.weight"])
        assert all(torch.equal(tensor, states[1][name]) for name, tensor in trainer.model.state().items())
        assert (outcome.progress.best_step, outcome.progress.best_value) == (12, 0.9)
        assert [entry["best"] for entry in outcome.progress.evaluations] == [True, True, False, False]

    def test_of_equal_scores_the_first_is_kept(self):
        trainer, states = scripted([0.5, 0.5, 0.5], epochs=2)
        trainer.fit()
        assert all(torch.equal(tensor, states[0][name]) for name, tensor in trainer.model.state().items())

    @pytest.mark.parametrize(
        ("values", "patience", "evaluations"),
        [
            ([0.5, 0.4, 0.4, 0.9], 2, 3),
            ([0.5, 0.5, 0.5, 0.9], 1, 2),
            ([0.5, 0.4, 0.6, 0.5, 0.5, 0.9], 2, 5),
            ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 6),
            ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4], None, 6),
        ],
    )
    @pytest.mark.parametrize("every", [None, 3])
    def test_early_stopping(self, values, patience, evaluations, every):
        trainer, states = scripted(
            values, epochs=3 if every else 6, early_stopping_patience=patience, evaluate_every_steps=every
        )
        trainer.fit()
        assert len(states) == evaluations
        assert trainer.progress.step == evaluations * (every or 6)

    def test_a_run_stopped_early_stays_stopped_when_resumed(self, tmp_path):
        settings = {"epochs": 6, "early_stopping_patience": 1, "checkpoint": tmp_path / "c"}
        scripted([0.5, 0.4, 0.9], **settings)[0].fit()
        trainer, states = scripted([0.9], **settings)
        trainer.resume()
        trainer.fit()
        assert states == []

    @pytest.mark.parametrize(("every", "steps"), [(None, [6, 12]), (5, [5, 10, 12]), (6, [6, 12]), (99, [12])])
    def test_when_dev_is_evaluated(self, every, steps):
        trainer = tiny_trainer(evaluate_every_steps=every)
        trainer.fit()
        assert [step for kind, step, _ in trainer.tracker.events if kind == "evaluation"] == steps


class TestSteps:
    @pytest.mark.parametrize(
        ("rows", "accumulation", "per_epoch"), [(24, 1, 6), (23, 1, 6), (25, 1, 7), (24, 4, 2), (25, 3, 3), (3, 2, 1)]
    )
    def test_are_counted_in_advance(self, rows, accumulation, per_epoch):
        trainer = tiny_trainer(rows=rows, accumulation_steps=accumulation)
        assert (trainer.steps_per_epoch, trainer.total_steps) == (per_epoch, 2 * per_epoch)
        assert trainer.fit().progress.step == trainer.total_steps

    @pytest.mark.parametrize("task", TASKS)
    @pytest.mark.parametrize(
        ("rows", "parts"),
        [
            (16, {"batch_size": 8, "accumulation_steps": 2}),
            (15, {"batch_size": 6, "accumulation_steps": 3}),
            (15, {"batch_size": 15, "tokens_at_once": 30}),
            (16, {"batch_size": 8, "accumulation_steps": 2, "tokens_at_once": 1}),
        ],
    )
    def test_parts_make_no_difference(self, task, rows, parts):
        settings = {"task": task, "method": NO_DROPOUT, "rows": rows, "epochs": 3, "max_grad_norm": 0}
        whole = tiny_trainer(**settings, batch_size=rows)
        in_parts = tiny_trainer(**settings, **parts)
        assert len(computed(whole)) == 1 < len(computed(in_parts))
        for trainer in (whole, in_parts):
            trainer.fit()
            assert trainer.progress.step == 3
        for one, other in zip(whole.tracker.of("step"), in_parts.tracker.of("step"), strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        moments = [list(t.optimizer.state_dict()["state"].values()) for t in (whole, in_parts)]
        # A bias that shifts all scores of a softmax has no gradient but rounding, so one scale for all.
        scale = max(slots["exp_avg"].abs().max().item() for slots in moments[0])
        for one, other in zip(*moments, strict=True):
            torch.testing.assert_close(one["exp_avg"], other["exp_avg"], rtol=1e-3, atol=1e-4 * scale)

    def test_a_step_asks_for_its_own_rows_alone(self, monkeypatch):
        """Else its time would grow with the data: half a second for each step over SST-2."""
        trainer, asked = tiny_trainer(rows=40), []
        monkeypatch.setattr(Encoded, "__len__", lambda row: asked.append(row) or len(row.input_ids))
        assert computed(trainer)
        trainer.fit()
        rows = 40 * trainer.settings.epochs
        assert len(asked) < 10 * rows  # 40 for each row of a step before

    def test_a_cpu_computes_so_much_at_once_and_a_gpu_everything(self):
        assert TrainingSettings().most_tokens(torch.device("cpu")) == 2048
        assert TrainingSettings().most_tokens(torch.device("cuda")) is None
        assert TrainingSettings(tokens_at_once=7).most_tokens(torch.device("cuda")) == 7

    def test_gradients_are_scaled_down_to_the_wanted_norm(self):
        norms = {}
        for wanted in (0, 1e-3):
            trainer = tiny_trainer(method=NO_DROPOUT, rows=4, epochs=1, max_grad_norm=wanted)
            trainer.fit()
            moments = [slots["exp_avg"] / 0.1 for slots in trainer.optimizer.state_dict()["state"].values()]
            norms[wanted] = torch.cat([moment.flatten() for moment in moments]).norm().item()
        assert norms[0] > 2e-3
        assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)

    def test_the_tracker_hears_of_everything_in_order(self):
        trainer = tiny_trainer(schedule="constant", warmup_ratio=0.25)
        outcome = trainer.fit()
        kinds = [kind for kind, _, _ in trainer.tracker.events]
        assert kinds == ["start", *["step"] * 6, "evaluation", *["step"] * 6, "evaluation", "end"]
        rates = [values["rate"] for values in trainer.tracker.of("step")]
        assert rates == pytest.approx([0.01 * f for f in (0.25, 0.5, 0.75, *[1.0] * 9)])
        losses = [values["loss"] for values in trainer.tracker.of("step")]
        means = [sum(losses[:6]) / 6, sum(losses[6:]) / 6]
        assert [e["train_loss"] for e in outcome.progress.evaluations] == pytest.approx(means)
        assert outcome.progress.tokens == 2 * sum(trainer.train.lengths)
        assert 0 < outcome.padding < 1

    def test_a_loss_that_is_not_finite_ends_the_run(self):
        with pytest.raises(ForewordError, match=r"the loss is (nan|inf) at step \d+\. Lower training\.learning_rate"):
            tiny_trainer(learning_rate=1e38, head_learning_rate=1e38, warmup_ratio=0).fit()

    def test_one_process_trains_in_several_precisions(self):
        losses = [tiny_trainer(precision=p, epochs=1).fit().progress.evaluations for p in ("bf16", "float32", "bf16")]
        rough, exact, again = (entries[0]["train_loss"] for entries in losses)
        assert rough == again != exact
        assert rough == pytest.approx(exact, rel=0.1)

    def test_what_is_trained_stays_float32_in_bf16(self):
        trainer = tiny_trainer(precision="bf16", epochs=1)
        trainer.fit()
        assert {p.dtype for _, p in trainer.model.trainable()} == {torch.float32}

    @pytest.mark.parametrize("task", [name for name in TASKS if not TASKS[name].needs_language_model])
    def test_a_prompt_learns_a_tiny_task_by_heart(self, task):
        """With a head; a prompt alone learns what a random model lets it."""
        settings = {"epochs": 40, "learning_rate": 3e-2, "head_learning_rate": 1e-2, "early_stopping_patience": 10}
        trainer = tiny_trainer(task=task, method=NO_DROPOUT, rows=12, **settings)
        trainer.dev = trainer.train
        assert trainer.fit().scores.main_value >= (0.9 if task == "regression" else 1)  # numbers are never quite right


class TestParameterGroups:
    def groups(self, method, **settings):
        trainer = tiny_trainer(method=method, **settings)
        names = {id(p): name for name, p in trainer.model.trainable()}
        return [
            (rate, group["weight_decay"], sorted(names[id(p)] for p in group["params"]))
            for rate, group in zip(trainer.base_rates, trainer.optimizer.param_groups, strict=True)
        ]

    def test_a_prompt_has_its_own_rate_and_no_decay(self):
        assert self.groups(NO_DROPOUT, learning_rate=0.3, head_learning_rate=0.1, weight_decay=0.5) == [
            (0.3, 0.0, ["prompt.prompt.weight"]),
            (0.1, 0.5, ["head.layers.1.weight"]),
            (0.1, 0.0, ["head.layers.1.bias"]),
        ]

    def test_the_methods_rate_is_used_where_none_is_given(self):
        (first, *_) = self.groups(NO_DROPOUT, learning_rate=None)
        assert first[0] == NO_DROPOUT.default_learning_rate

    def test_the_head_alone(self):
        rates = {rate for rate, _, _ in self.groups(HeadOnly(), learning_rate=0.3, head_learning_rate=0.1)}
        assert rates == {0.1}

    def test_fine_tuning_decays_matrices_alone(self):
        groups = self.groups(FineTuning(), learning_rate=0.3, head_learning_rate=0.1, weight_decay=0.5)
        assert sum(len(names) for _, _, names in groups) == len({n for _, _, names in groups for n in names})
        for _, decay, names in groups:
            vectors = [name for name in names if name.endswith("bias") or "LayerNorm" in name]
            assert vectors == (names if decay == 0 else [])


class TestSchedules:
    """Ten epochs of two steps, the first fifth of them warmup, against values by hand."""

    def factors(self, schedule, **settings):
        settings = TrainingSettings(schedule=schedule, **{"warmup_ratio": 0.2, **settings})
        return [rate_factor(settings, step, 20, 2) for step in range(20)]

    @pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "exponential"])
    def test_warmup_rises_evenly_to_the_rate(self, schedule):
        assert self.factors(schedule)[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])

    def test_constant(self):
        assert self.factors("constant")[4:] == [1.0] * 16

    def test_linear_falls_to_one_last_small_step(self):
        assert self.factors("linear")[4:] == pytest.approx([1 - i / 16 for i in range(16)])

    def test_cosine(self):
        factors = self.factors("cosine")
        assert [factors[4], factors[8], factors[12], factors[16]] == pytest.approx(
            [1, 0.5 + math.sqrt(0.5) / 2, 0.5, 0.5 - math.sqrt(0.5) / 2]
        )

    def test_exponential_falls_once_per_epoch(self):
        factors = self.factors("exponential", exponential_decay=0.5, warmup_ratio=0)
        assert factors[:6] == [1, 1, 0.5, 0.5, 0.25, 0.25]

    @pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "exponential"])
    def test_without_warmup_the_first_step_has_the_whole_rate(self, schedule):
        factors = self.factors(schedule, warmup_ratio=0)
        assert factors[0] == 1
        assert all(0 < factor <= 1 for factor in factors)
        assert factors == sorted(factors, reverse=True)
