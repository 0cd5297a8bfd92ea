"""Runs that are stopped: politely, and not."""

from __future__ import annotations

import shlex
import signal
import time
from pathlib import Path

import pytest

LONG = ("--set", "training.epochs=60", "--set", "training.evaluate_every_steps=3", "--set", "training.batch_size=4")


def wait_for_change(path: Path, before: int | None, process) -> None:
    """Until a checkpoint is written that was not there ``before``."""
    for _ in range(6000):
        if path.exists() and path.stat().st_mtime_ns != before:
            return
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.005)
    process.kill()
    raise AssertionError("no checkpoint came")


@pytest.fixture(scope="module")
def whole_run(place, tmp_path_factory):
    """The prompt of the run that nobody disturbs."""
    output = tmp_path_factory.mktemp("whole") / "run"
    process = place.start("train", place.recipe("classification"), *LONG, "--output", output)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return (output / "artifact" / "prompt.safetensors").read_bytes()


def test_ctrl_c_then_a_kill_then_the_same_bits(place, whole_run, tmp_path):
    output = tmp_path / "the run"
    checkpoint = output / "checkpoint.safetensors"
    process = place.start("train", place.recipe("classification"), *LONG, "--output", output)
    wait_for_change(checkpoint, None, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == b""
    assert "Traceback" not in err.decode()
    assert f"saved to {checkpoint}" in err.decode()
    *_, told = err.decode().strip().splitlines()
    program, *again = shlex.split(told.removeprefix("Go on with: "))
    assert program == "foreword"
    assert again[0] == "train"
    assert again[-1] == "--resume"

    before = checkpoint.stat().st_mtime_ns
    process = place.start(*again)
    wait_for_change(checkpoint, before, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (output / "artifact").exists()

    process = place.start(*again)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "going on from step" in err.decode()
    assert (output / "artifact" / "prompt.safetensors").read_bytes() == whole_run
    assert not checkpoint.exists()


@pytest.fixture
def stopped(place, tmp_path):
    """A run that was stopped after its first checkpoint."""
    from foreword.training.checkpoint import save_checkpoint

    def save_and_stop(*arguments, **options):
        save_checkpoint(*arguments, **options)
        raise KeyboardInterrupt

    output = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("foreword.training.loop.save_checkpoint", save_and_stop)
        result = place.run("train", place.recipe("classification"), "--output", output)
    assert result.code == 130
    assert f"--output {output} --resume" in result.err
    return output


def test_an_unfinished_run_is_not_started_over(place, stopped):
    place.refuse("train", place.recipe("classification"), "--output", stopped, says=("unfinished run", "--resume"))
    place.refuse("evaluate", stopped, "--data", "x.jsonl", says=("this run is not finished", "--resume"))


def test_resume_refuses_another_recipe_and_touches_nothing(place, stopped):
    before = {path: path.read_bytes() for path in stopped.iterdir()}
    changed = ("--set", "training.seed=12")
    place.refuse(
        "train", place.recipe("classification"), *changed, "--output", stopped, "--resume", says=("another recipe",)
    )
    assert {path: path.read_bytes() for path in stopped.iterdir()} == before


def test_resume_refuses_a_damaged_checkpoint(place, stopped):
    checkpoint = stopped / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    recipe = place.recipe("classification")
    place.refuse("train", recipe, "--output", stopped, "--resume", says=(str(checkpoint), "damaged"))


def test_nothing_to_resume(place, tmp_path):
    recipe = place.recipe("classification")
    place.refuse("train", recipe, "--output", tmp_path / "x", "--resume", says=("no run to resume",))
    assert not (tmp_path / "x").exists()


def test_ctrl_c_in_the_quickstart_is_not_called_a_mistake_of_the_user(monkeypatch, capsys):
    from foreword.cli import main
    from foreword.training.loop import Interrupted

    def stop(*_: object) -> int:
        raise Interrupted(None, 3)

    monkeypatch.setattr(main, "_run", stop)
    assert main.main(["quickstart"]) == 130
    assert "stopped after 3 steps" in capsys.readouterr().err
