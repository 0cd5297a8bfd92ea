"""Several tasks in one run: they take turns, share a prompt, and keep their heads to themselves."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.data.batching import bucketed_batches, collate, token_batches
from foreword.errors import CheckpointError, MethodError
from foreword.inference.encoding import EncodedSet
from foreword.methods import fold
from foreword.metrics.scores import Scores
from foreword.model import PromptedModel
from foreword.training.evaluation import Evaluation, dev_values
from foreword.training.lanes import Lane, Stream
from foreword.training.loop import Interrupted, Trainer
from foreword.training.mixing import Mixing
from foreword.training.settings import TrainingSettings
from tiny import tiny_backbone
from tiny_artifacts import METHODS, records
from tiny_artifacts import TASKS as ARTIFACT_TASKS
from tiny_runs import TASKS, Recorder, interrupt_at, tiny_data

ROWS = {"classification": 24, "ner": 9, "qa": 5}
DIRECT = fw.PTuningV2(prompt_length=4, dropout=0)
RUNS = {
    "plain": {},
    "equal": {"mixing": Mixing(temperature=math.inf)},
    "cap": {"mixing": Mixing(cap=8), "accumulation_steps": 2, "batch_size": 2},
    "tokens": {"mixing": Mixing(cap=8, temperature=2), "accumulation_steps": 2, "batch_tokens": 40},
    "dropout": {"backbone_dropout": 0.2, "attention_dropout": 0.1, "precision": "bf16"},
    "mlp": {"method": fw.PTuningV2(prompt_length=3, reparameterization="mlp", mlp_hidden=8)},
    "evaluate-every-steps": {"evaluate_every_steps": 3, "weight_decay": 0.1},
    "lora": {"method": fw.LoRA(r=2)},
    "mixture": {"method": METHODS["mixture-of-prefixes"]},
}


def multi_trainer(*, method=DIRECT, rows=None, mixing=None, tracker=None, checkpoint=None, **settings) -> Trainer:
    """A fresh, seeded trainer of three tasks of different sizes."""
    chosen = TrainingSettings(**{"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, **settings})
    backbone, first, lanes = tiny_backbone(), None, []
    torch.manual_seed(chosen.seed)
    for name, count in (rows or ROWS).items():
        head = TASKS[name].build_head(backbone.hidden_size, backbone)
        model = PromptedModel(backbone, method, head) if first is None else first.sibling(head)
        first = first or model
        data = (tiny_data(TASKS[name], backbone, size) for size in (count, 6))
        lanes.append(Lane(name, model, TASKS[name], *data))
    listener = tracker or Recorder()
    return Trainer(lanes, chosen, mixing=mixing, tracker=listener, checkpoint=checkpoint, recipe="tiny")


def finished(trainer):
    """Everything that two runs must have in common, once they are over."""
    outcomes = trainer.fit()
    slots = trainer.optimizer.state_dict()["state"]
    moments = {f"{number}.{name}": t for number, slot in slots.items() for name, t in slot.items()}
    entries = [{k: v for k, v in entry.items() if k != "seconds"} for entry in trainer.progress.evaluations]
    numbers = (trainer.progress.step, trainer.progress.best_step, trainer.progress.tokens, entries)
    answers = {name: (outcome.scores, outcome.predictions) for name, outcome in outcomes.items()}
    return trainer.models.state() | moments, (numbers, answers)


def identical(one, other):
    assert one[0].keys() == other[0].keys()
    assert [name for name, tensor in one[0].items() if not torch.equal(tensor, other[0][name])] == []
    assert one[1] == other[1]


def lane_of(name: str, count: int, together: bool = False) -> Lane:
    """A lane with nothing but rows of different lengths, three to an example."""
    rows = [range(number % 7 + 1) for number in range(count)]
    data = EncodedSet([], rows, [range(i, min(i + 3, count)) for i in range(0, count, 3)], Counter())
    return Lane(name, None, SimpleNamespace(together=together), data, data)


class TestPieces:
    @given(rows=st.lists(st.integers(0, 39), min_size=1, unique=True), most=st.integers(1, 60), together=st.booleans())
    def test_hold_every_row_once_and_no_more_than_fits(self, rows, most, together):
        lane = lane_of("a", 40, together)
        if together:
            rows = [row for row in rows if row % 3 == 0 and row < 39]
            rows = [row + place for row in rows for place in range(3)] or [0, 1, 2]
        found = lane.pieces(rows, most)
        assert sorted(row for piece in found for row in piece) == sorted(rows)
        for piece in found:
            units = lane.units_of(piece)
            assert all(len(unit) == 3 for unit in units) or not together
            assert len(piece) * max(lane.train.lengths[row] for row in piece) <= most or len(units) == 1

    def test_none_where_all_fit(self):
        lane = lane_of("a", 14)
        rows = [9, 3, 6, 0]  # of 3, 4, 7 and 1 tokens
        assert lane.pieces(rows, None) == lane.pieces(rows, 28) == [rows]
        assert lane.pieces(rows, 27) == [[0, 9, 3], [6]]


class TestStream:
    def stream(self, sizes, mixing=None, **settings):
        lanes = [lane_of(name, count) for name, count in sizes.items()]
        return Stream(lanes, TrainingSettings(**{"batch_size": 4, **settings}), mixing or Mixing())

    def test_of_one_task_an_epoch_is_a_pass_as_ever(self):
        stream = self.stream({"a": 23}, accumulation_steps=2)
        for epoch in range(3):
            expected = bucketed_batches([n % 7 + 1 for n in range(23)], 4, seed=11, epoch=epoch)
            assert [batch for step in stream.epoch(epoch) for batch in step.parts] == expected
            assert [len(step.parts) for step in stream.epoch(epoch)] == [2, 2, 2]

    def test_every_row_of_every_task_once_an_epoch(self):
        stream = self.stream({"a": 50, "b": 11, "c": 3})
        for epoch in range(3):
            seen = Counter((step.lane.name, i) for step in stream.epoch(epoch) for part in step.parts for i in part)
            assert seen == Counter(
                [("a", i) for i in range(50)] + [("b", i) for i in range(11)] + [("c", i) for i in range(3)]
            )

    def test_tasks_take_turns_in_an_order_of_the_epochs_own(self):
        stream = self.stream({"a": 40, "b": 40})
        orders = [[step.lane.name for step in stream.epoch(epoch)] for epoch in range(2)]
        assert orders[0] != orders[1]
        for order in orders:
            assert sum(one != other for one, other in pairwise(order)) > 4
        other = self.stream({"a": 40, "b": 40}, seed=5)
        assert [step.lane.name for step in other.epoch(0)] != orders[0]

    def test_the_same_however_often_it_is_asked(self):
        stream = self.stream({"a": 50, "b": 11}, Mixing(temperature=3))
        assert stream.epoch(4) == stream.epoch(4)

    @pytest.mark.parametrize(
        ("mixing", "expected"),
        [
            (Mixing(), {"a": 64, "b": 16, "c": 4}),
            (Mixing(temperature=2), {"a": 48, "b": 24, "c": 12}),  # as 8 to 4 to 2
            (Mixing(temperature=math.inf), {"a": 28, "b": 28, "c": 28}),
            (Mixing(cap=64), {"a": 16, "b": 16, "c": 4}),
            (Mixing(cap=64, temperature=2), {"a": 15, "b": 14, "c": 7}),  # of 36 as 4 to 4 to 2: 14.4, 14.4, 7.2
        ],
    )
    def test_how_often_each_has_its_turn(self, mixing, expected):
        stream = self.stream({"a": 256, "b": 64, "c": 16}, mixing)
        for epoch in range(2):
            assert Counter(step.lane.name for step in stream.epoch(epoch)) == expected
        assert stream.steps_per_epoch == sum(expected.values())

    @pytest.mark.parametrize("batches", [{"batch_size": 4}, {"batch_tokens": 17}])
    @pytest.mark.parametrize("mixing", [Mixing(temperature=math.inf), Mixing(cap=20), Mixing(temperature=3, cap=60)])
    def test_no_row_waits_longer_than_a_pass(self, mixing, batches):
        stream = self.stream({"a": 90, "b": 26}, mixing, **batches)
        seen = Counter()
        for epoch in range(9):
            for step in stream.epoch(epoch):
                seen.update((step.lane.name, i) for part in step.parts for i in part)
            for name, size in (("a", 90), ("b", 26)):
                counts = [seen[name, i] for i in range(size)]
                assert max(counts) - min(counts) <= 1

    @pytest.mark.parametrize("parts", [1, 3])
    def test_by_tokens_an_epoch_is_a_pass_too(self, parts):
        stream = self.stream({"a": 50}, batch_tokens=15, accumulation_steps=parts)
        lengths = [number % 7 + 1 for number in range(50)]
        batches = len(token_batches(lengths, 15, seed=11, epoch=0))
        for epoch in range(4):
            steps = stream.epoch(epoch)
            assert len(steps) == stream.steps_per_epoch == math.ceil(batches / parts)
            expected = token_batches(lengths, 15, seed=11, epoch=epoch)
            assert [batch for step in steps for batch in step.parts] == expected
            assert [len(step.parts) for step in steps[:-1]] == [parts] * (len(steps) - 1)

    @pytest.mark.parametrize(
        ("mixing", "expected"),
        [
            (Mixing(), {"a": 15, "b": 5}),
            (Mixing(cap=35), {"a": 7, "b": 5}),  # the first counts as half of it
            (Mixing(cap=1), {"a": 1, "b": 1}),
        ],
    )
    def test_by_tokens_a_task_has_its_turn_by_the_steps_of_its_pass(self, mixing, expected):
        """Counted by hand: 21 positions, ten rows (or three) of 7, 6, 5, 4, 3, 2 and 1 tokens.

        Ten: 777 777 777 766 666 666 665 5555 5555 5444 44444 44333 3333333, ten 2, ten 1.
        Three: 777 666 5554 44333 222111.
        """
        stream = self.stream({"a": 70, "b": 21}, mixing, batch_tokens=21)
        assert Counter(step.lane.name for step in stream.epoch(0)) == expected

    def test_examples_that_stand_together_stay_so(self):
        lanes = [lane_of("a", 30, together=True), lane_of("b", 12)]
        stream = Stream(lanes, TrainingSettings(batch_size=2), Mixing())
        assert stream.shares == [5, 6]
        parts = [part for step in stream.epoch(0) if step.lane.name == "a" for part in step.parts]
        assert all(part[i : i + 3] == list(range(part[i], part[i] + 3)) for part in parts for i in (0, 3))


class TestSteps:
    def test_are_those_of_a_loop_written_by_hand(self):
        """Same batches, `torch.optim.Adam` without tricks, and only the head of the task whose turn it is."""
        settings = {"epochs": 1, "schedule": "constant", "warmup_ratio": 0, "max_grad_norm": 0}
        trainer, own = multi_trainer(**settings), multi_trainer(**settings)
        prompt = list(own.lanes[0].model.prompt.parameters())
        optimizers = {lane.name: torch.optim.Adam(lane.model.head.parameters(), lr=1e-3) for lane in own.lanes}
        shared = torch.optim.Adam(prompt, lr=1e-2)
        losses = []
        for step in own.stream.epoch(0):
            model, task, (indices,) = step.lane.model, step.lane.task, step.parts
            batch = collate(step.lane.train.rows, indices, model.backbone.tokenizer.pad_token_id)
            loss = task.loss(model.train()(batch), batch.targets)
            for optimizer in (shared, optimizers[step.lane.name]):
                optimizer.zero_grad()
            loss.backward()
            losses.append(loss.item())
            for optimizer in (shared, optimizers[step.lane.name]):
                optimizer.step()
        last = []
        trainer.tracker = Recorder(lambda kind, _: last.append(trainer.models.state()) if kind == "step" else None)
        trainer.fit()
        assert [event["loss"] for event in trainer.tracker.of("step")] == pytest.approx(losses, rel=1e-4)
        expected = own.models.state()
        del expected["qa/head.linear.bias"]  # it shifts all scores of a softmax: no gradient but rounding
        for name, tensor in expected.items():
            torch.testing.assert_close(last[-1][name], tensor, rtol=1e-3, atol=1e-5)

    def test_the_shared_prompt_has_the_gradient_of_the_one_task(self):
        trainer, own = (multi_trainer(max_grad_norm=0, warmup_ratio=0) for _ in range(2))
        step = trainer.stream.epoch(0)[0]
        trainer.follow(trainer._step(step))
        lane = next(lane for lane in own.lanes if lane.name == step.lane.name)
        batch = collate(lane.train.rows, step.parts[0], lane.model.backbone.tokenizer.pad_token_id)
        lane.task.loss(lane.model(batch), batch.targets).backward()
        for found, expected in zip(
            trainer.lanes[0].model.prompt.parameters(), own.lanes[0].model.prompt.parameters(), strict=True
        ):
            torch.testing.assert_close(trainer.optimizer.state[found]["exp_avg"] / 0.1, expected.grad)

    def test_a_step_leaves_the_other_heads_alone(self):
        """Also their decay and their momentum: a head does not move while it is not asked."""
        trainer = multi_trainer(weight_decay=0.5, warmup_ratio=0)
        for step in trainer.stream.epoch(0):
            before = trainer.models.state()
            trainer.follow(trainer._step(step))
            after = trainer.models.state()
            moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
            heads = {name.partition("/")[0] for name in moved if "/" in name}
            assert heads == {step.lane.name}
            assert "prompt.prompt.weight" in moved

    def test_every_tensor_is_trained_once_and_the_backbone_stays(self):
        trainer = multi_trainer(method=METHODS["combined"], epochs=1)
        trained = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
        assert len(trained) == len(set(trained))
        assert set(trained) == {id(p) for lane in trainer.lanes for _, p in lane.model.trainable()}
        before = {name: p.clone() for name, p in trainer.models.backbone.model.named_parameters()}
        trainer.fit()
        assert all(torch.equal(p, before[name]) for name, p in trainer.models.backbone.model.named_parameters())

    def test_prompts_and_attachments_are_one(self):
        first, *others = multi_trainer(method=METHODS["combined"]).lanes
        for other in others:
            assert other.model.prompt is first.model.prompt
            assert other.model.attachment is first.model.attachment
            assert other.model.head is not first.model.head

    def test_all_tasks_learn(self):
        trainer = multi_trainer(epochs=30, learning_rate=3e-2, head_learning_rate=1e-2, rows=dict.fromkeys(ROWS, 12))
        trainer.lanes = [Lane(lane.name, lane.model, lane.task, lane.train, lane.train) for lane in trainer.lanes]
        assert min(outcome.scores.main_value for outcome in trainer.fit().values()) > 0.9


class TestSameBits:
    @pytest.mark.parametrize("run", RUNS)
    def test_an_interrupted_run_goes_on_as_if_nothing_had_been(self, run, tmp_path):
        settings, path = {"epochs": 3, **RUNS[run]}, tmp_path / "checkpoint"
        whole = finished(multi_trainer(**settings))
        for step in (2, 7, 11):  # the first with heads that have not had their turn
            trainer = multi_trainer(**settings, tracker=interrupt_at(step), checkpoint=path)
            if step > 2:
                torch.manual_seed(step)
                trainer.resume()
            with pytest.raises(Interrupted):
                trainer.fit()
        last = multi_trainer(**settings, checkpoint=path)
        last.resume()
        assert last.progress.step == 11
        identical(finished(last), whole)

    def test_a_state_puts_everything_back(self):
        trainer, other = multi_trainer(epochs=1), multi_trainer(seed=5)
        trainer.fit()
        other.models.load_state(trainer.models.state())
        assert trainer.evaluate() == other.evaluate()
        assert Counter(name.partition("/")[0] for name in trainer.models.state())["prompt.prompt.weight"] == 1


class TestSelection:
    def test_is_by_the_mean_of_the_main_scores(self):
        scores = {"a": {"f1": 0.4, "precision": 1.0}, "b": {"f1": 0.9, "precision": 0.1}}
        found = {name: Evaluation(TASKS["ner"], Scores(values, {}, "f1"), []) for name, values in scores.items()}
        values = dev_values(found)
        assert values == {
            "a/f1": 0.4,
            "a/precision": 1.0,
            "b/f1": 0.9,
            "b/precision": 0.1,
            "mean": pytest.approx(0.65),
            "main": "mean",
            "tasks": {"a": 0.4, "b": 0.9},
        }

    def test_of_one_task_nothing_is_put_in_front(self):
        values = dev_values({"a": Evaluation(TASKS["ner"], Scores({"f1": 0.5}, {}, "f1"), [])})
        assert values == {"f1": 0.5, "main": "f1"}

    def test_all_models_get_the_weights_of_the_best_evaluation(self):
        states = []
        recorder = Recorder(lambda kind, _: states.append(trainer.models.state()) if kind == "evaluation" else None)
        trainer = multi_trainer(epochs=4, tracker=recorder)
        outcomes = trainer.fit()
        means = [entry["mean"] for entry in trainer.progress.evaluations]
        best = means.index(max(means))
        assert all(torch.equal(tensor, states[best][name]) for name, tensor in trainer.models.state().items())
        assert sum(one.scores.main_value for one in outcomes.values()) / 3 == pytest.approx(max(means))
        assert {event["task"] for event in recorder.of("step")} == set(ROWS)


def train_together(method="ptuning-v2", names=("classification", "ner", "qa"), **training):
    tasks = {f"my {name}": (ARTIFACT_TASKS[name], records(name), records(name)) for name in names}
    settings = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-2, "progress": False, **training}
    return fw.train_together(tiny_backbone(), METHODS[method], tasks, **settings)


class TestArtifacts:
    @pytest.mark.parametrize("method", ["ptuning-v2-mlp", "prompt-tuning", "mixture-of-prefixes"])
    def test_answer_in_one_mixed_batch_as_alone(self, method, tmp_path):
        runs = train_together(method)
        for name, run in runs.items():
            run.save(tmp_path / name)
        artifacts = {name: load_artifact(tmp_path / name) for name in runs}
        backbone = tiny_backbone()
        inputs = [
            (name, item) for i in range(4) for name in runs for item in records(name[3:], labelled=False)[i : i + 1]
        ]
        mixed = fw.Engine(backbone, artifacts).predict(inputs)
        for name in runs:
            alone = fw.load(tmp_path / name, backbone).predict(records(name[3:], labelled=False))
            for one, other in zip((a for a in mixed if a["task"] == name), alone, strict=True):
                assert {k: v for k, v in one.items() if k not in ("id", "task")} == approximately(
                    {k: v for k, v in other.items() if k != "id"}
                )

    def test_hold_one_prompt_and_a_head_each(self, tmp_path):
        runs = train_together()
        prompts = [fold(run.model.prompt) for run in runs.values()]
        for name, run in runs.items():
            run.save(tmp_path / name)
            manifest = load_artifact(tmp_path / name).manifest
            assert manifest.metrics.values == run.outcome.scores.values
            assert set(manifest.recipe["together"]) == set(runs) - {name}
            assert manifest.parameters.head == sum(p.numel() for p in run.model.head.parameters())
            assert "trained together with" in (tmp_path / name / "README.md").read_text()
        for site, pair in prompts[0].prefix.items():
            assert all(torch.equal(pair.key, other.prefix[site].key) for other in prompts[1:])

    def test_scores_are_those_of_the_saved_artifact(self, tmp_path):
        runs = train_together("lora")
        for name, run in runs.items():
            run.save(tmp_path / name)
            again = fw.load(tmp_path / name, tiny_backbone()).evaluate(fw.api.Source.of(records(name[3:])))
            assert again == run.outcome.scores

    def test_one_alone_is_trained_as_ever(self):
        task, data = ARTIFACT_TASKS["ner"], records("ner")
        settings = {"epochs": 2, "batch_size": 2, "progress": False}
        run = fw.train(tiny_backbone(), METHODS["ptuning-v2"], task, train=data, dev=data, **settings)
        (other,) = fw.train_together(
            tiny_backbone(), METHODS["ptuning-v2"], {"x": (task, data, data)}, **settings
        ).values()
        assert all(torch.equal(tensor, other.model.state()[name]) for name, tensor in run.model.state().items())


def approximately(value):
    """The same answer, its probabilities to within rounding: another batch adds up in another order."""
    if isinstance(value, dict):
        return {key: approximately(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [approximately(inner) for inner in value]
    return pytest.approx(value, abs=2e-6) if isinstance(value, float) else value


class TestRefused:
    @pytest.mark.parametrize("method", ["fine-tuning", "bitfit", "ln-tuning"])
    def test_a_method_that_tunes_the_backbone(self, method):
        with pytest.raises(MethodError, match=f"'{method}' trains weights of the backbone itself, and several tasks"):
            train_together(method)

    def test_a_head_for_several(self, tmp_path):
        for name, run in train_together(names=("ner", "qa")).items():
            run.save(tmp_path / name[3:])
        with pytest.raises(MethodError, match="a head is one task's, and here are several"):
            train_together(names=("ner", "qa"), start_from=tmp_path / "ner", start_head=True)

    def test_a_checkpoint_of_other_tasks(self, tmp_path):
        with pytest.raises(Interrupted):
            multi_trainer(tracker=interrupt_at(1), checkpoint=tmp_path / "c").fit()
        trainer = multi_trainer(checkpoint=tmp_path / "c")
        trainer.recipe = "other"
        with pytest.raises(CheckpointError, match="belongs to another recipe or other data"):
            trainer.resume()
