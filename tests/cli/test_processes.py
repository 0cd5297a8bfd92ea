"""`foreword train` as `accelerate launch` starts it: twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

ALIKE = ("--set", "method.dropout=0", "--set", "task.dropout=0", "--set", "training.epochs=2")


def launch(place, *arguments, options=(), code=0):
    """Run the command in two processes that share out the layers of the backbone."""
    launcher = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2"]
    done = subprocess.run(
        [
            *launcher,
            "--use_fsdp",
            "--main_process_port",
            "0",
            *options,
            "-m",
            "foreword",
            "train",
            *map(str, arguments),
        ],
        env=place.environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def test_two_processes_write_one_run_and_one_artifact(place, tmp_path):
    recipe = place.recipe("classification")
    done = launch(place, recipe, *ALIKE, "--output", tmp_path / "two")
    assert place.run("train", recipe, *ALIKE, "--output", tmp_path / "one").code == 0
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    assert done.stdout.count("artifact") == done.stdout.count("accuracy") + 2 == 3
    assert done.stderr.count("step 4/4 ") == 1
    logs, artifacts, numbers = zip(*(run_of(tmp_path / name) for name in ("one", "two")), strict=True)
    assert [entry["event"] for entry in logs[0]] == [entry["event"] for entry in logs[1]]
    for table in ("backbone", "task", "method", "recipe", "data", "metrics", "parameters"):
        assert artifacts[0][table] == artifacts[1][table]
    assert_close(numbers[0], numbers[1], rtol=0, atol=1e-5)


def run_of(folder):
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    artifact = json.loads((folder / "artifact" / "artifact.json").read_text())
    return log, artifact, load_file(folder / "artifact" / "prompt.safetensors")


@pytest.mark.parametrize(("rank", "said"), [("0", "error: x: "), ("1", "process 1: error: x: ")])
def test_an_error_names_its_process(place, monkeypatch, rank, said):
    monkeypatch.setitem(os.environ, "RANK", rank)
    result = place.run("inspect", "x")
    assert result.code == 2
    assert result.err.startswith(said)


def test_whoever_asks_accelerate_for_processes_on_the_cpu_is_told_that_there_is_one(place, monkeypatch, tmp_path):
    for name, value in (("ACCELERATE_USE_CPU", "True"), ("MASTER_ADDR", "127.0.0.1")):
        monkeypatch.setenv(name, value)
    result = place.run("train", place.recipe("classification"), *ALIKE, "--output", tmp_path / "run")
    assert result.code == 0
    assert "warning: `accelerate launch --cpu` starts one process" in result.err
