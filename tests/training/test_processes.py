"""Several processes train what one process trains with the same batches; the main one alone writes."""

from __future__ import annotations

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from foreword.errors import BackboneError, MethodError
from foreword.methods import FineTuning
from foreword.training.loop import Interrupted
from foreword.training.processes import Processes
from foreword.training.settings import TrainingSettings
from foreword.training.sharding import check_sharding
from several_processes import (
    DIRECT,
    DROPPING,
    RUNS,
    SHARED_OUT,
    finish,
    found,
    found_together,
    start,
    trainer_of,
    writer_trainer,
)
from tiny import tiny_backbone
from tiny_runs import TASKS, interrupt_at

CPU = torch.device("cpu")

UNSEEN = ("key.bias", "multiple-choice/head.layers.1.bias", "qa/head.linear.bias")
"""What a softmax does not depend on: the gradient is rounding alone, and Adam makes whole steps of it."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The checkpoint of a run of one process that was stopped inside its second epoch."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.raises(Interrupted):
        trainer_of(epochs=3, tracker=interrupt_at(6), checkpoint=folder / "one.safetensors").fit()
    return folder


@pytest.fixture(scope="module")
def data_parallel(stopped):
    """Where two processes have left what they found. In the end the main one dies."""
    folder = stopped / "data-parallel"
    _, said = finish(start(2, "data-parallel", folder), (-signal.SIGKILL, 1))
    (folder / "said").write_text(said)
    return folder


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared-out")
    finish(start(2, "shared-out", folder, ACCELERATE_USE_FSDP="true", FSDP_CPU_RAM_EFFICIENT_LOADING="true"), (0, 0))
    return folder


def left(folder, name):
    """What both processes found, which must be the same to the last bit."""
    (state, said), other = (
        (load_file(folder / f"{name}.{rank}.st"), json.loads((folder / f"{name}.{rank}.json").read_text()))
        for rank in (0, 1)
    )
    assert said == other[1]
    assert all(torch.equal(tensor, other[0][key]) for key, tensor in state.items())
    return state, said


def same(one, other, *, tolerance=2e-5):
    """Parameter by parameter, and all that is said of the run."""
    (state, said), (others, told) = one, other
    assert state.keys() == others.keys()
    for name, tensor in state.items():
        if not name.endswith(UNSEEN):
            torch.testing.assert_close(tensor, others[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
    assert said.keys() == told.keys()
    numbers, told_numbers = ([*leaves(kept)] for kept in (said, told))
    assert numbers == pytest.approx(told_numbers, abs=100 * tolerance)


def leaves(said):
    """All that is not a table or a list, in order; words as they are."""
    for value in said.values() if isinstance(said, dict) else said:
        if isinstance(value, dict | list):
            yield from leaves(value)
        else:
            yield value


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_are_one(name, data_parallel):
    bf16 = RUNS[name].get("precision") == "bf16"
    same(left(data_parallel, name), found(trainer_of(**RUNS[name])), tolerance=1e-2 if bf16 else 2e-5)


def test_heads_of_other_tasks_stay_as_they_are(data_parallel):
    same(left(data_parallel, "several tasks"), found_together())


def test_dropout_is_drawn_anew_in_each_process_and_the_same_in_each_run(data_parallel):
    runs = [left(data_parallel, name)[0] for name in ("dropping", "dropping again", "dropping resumed")]
    for state in runs[1:]:
        assert all(torch.equal(tensor, runs[0][name]) for name, tensor in state.items())
    alone, _ = found(trainer_of(**DROPPING))
    assert any(not torch.allclose(tensor, runs[0][name], atol=1e-3) for name, tensor in alone.items())


def test_a_run_of_one_process_is_resumed_by_two(data_parallel):
    same(left(data_parallel, "resumed"), found(trainer_of(epochs=3)))


def test_a_run_of_two_processes_is_resumed_by_one(data_parallel):
    resumed = trainer_of(**DROPPING, checkpoint=data_parallel / "several")
    resumed.resume()
    assert resumed.progress.epoch == DROPPING["epochs"]  # the two have gone on to the end of it since


def test_a_signal_to_one_stops_both_at_the_same_step(data_parallel):
    steps = {(data_parallel / f"stopped.{rank}").read_text() for rank in (0, 1)}
    assert len(steps) == 1
    assert int(steps.pop()) >= 5


def test_errors_are_told_once(data_parallel):
    main, other = (json.loads((data_parallel / f"errors.{rank}").read_text()) for rank in (0, 1))
    followed = "Followed: another process of this run could not go on"
    assert main["led"] == main["agreed 0"] == "ValueError: broken in 0"
    assert main["agreed 1"] == "ForewordError: process 1: broken in 1"
    assert main["different"].startswith("ForewordError: process 1 has another recipe, other data or another backbone")
    assert [other[name] for name in ("led", "agreed 0", "agreed 1", "different")] == [followed] * 4
    assert main["same"] == other["same"] == "None"
    assert (main["fine"], other["fine"]) == ("[0, 0]", "[0, 1]")
    assert main["diverged"].startswith("Diverged: the loss is")
    assert other["diverged"] == main["diverged"]


def test_whoever_is_left_does_not_wait_for_the_dead(data_parallel):
    assert "Lost: lost touch with another process of this run" in (data_parallel / "said").read_text()


class TestSharedOut:
    @pytest.mark.parametrize("name", SHARED_OUT)
    def test_is_the_run_of_one_process(self, name, shared_out):
        state, said = left(shared_out, name)
        identity, own, whole = (said.pop(key) for key in ("identity", "own", "whole"))
        assert 0 < own < 0.6 * whole
        trainer = trainer_of(**SHARED_OUT[name])
        bf16 = SHARED_OUT[name].get("precision") == "bf16"
        same((state, said), found(trainer), tolerance=1e-2 if bf16 else 2e-5)
        assert identity == trainer.models.backbone.identity.weights

    def test_texts_are_written(self, shared_out):
        same(left(shared_out, "written"), found(writer_trainer()))

    @pytest.mark.parametrize(
        ("method", "settings", "quantization", "error", "says"),
        [
            (FineTuning(), {}, None, MethodError, "'fine-tuning' trains weights of the backbone"),
            (DIRECT, {"trunk_cache": "disk"}, None, MethodError, "all processes run all layers together"),
            (DIRECT, {}, "int8", BackboneError, "quantized to 'int8' cannot be shared out"),
        ],
    )
    def test_what_needs_the_layers_whole_is_refused(self, method, settings, quantization, error, says):
        backbone, chosen = tiny_backbone(), TrainingSettings(**settings)
        backbone.quantization = quantization
        check_sharding(method, chosen, backbone, Processes(CPU, 2))
        with pytest.raises(error, match=says):
            check_sharding(method, chosen, backbone, Processes(CPU, 2, sharding=True))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [0, 1, 4, 7])
def test_shares_are_all_of_it_and_nothing_twice(count, size):
    shares = [Processes(CPU, count, rank).share(range(size)) for rank in range(count)]
    assert sorted(unit for share in shares for unit in share) == list(range(size))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_rows_of_an_example_are_one_unit():
    lane = trainer_of(task="multiple-choice").lanes[0]
    assert lane.task.together
    (batch, *_) = lane.batches(TrainingSettings(batch_size=5), 0)
    units = lane.units_of(batch)
    assert len(units) == 5
    assert [row for unit in units for row in unit] == batch
    assert all(unit in lane.train.rows_of for unit in units)
    assert not TASKS["qa"].together
