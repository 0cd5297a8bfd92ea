"""Studies that several processes serve, from the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foreword.studies.cells.running import run_study
from foreword.studies.cells.study_file import load_study

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}


def start(study: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "foreword", "compare", study, "--output", study.with_name("out"), "--jobs", "2"]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *options], env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)


def test_two_workers_share_the_cells(study_file):
    process = start(study_file, "--only", "places", "--methods", "prompt")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    lines = [line.partition(":")[0] for line in err.splitlines()]
    assert sorted(lines) == [f"places.prompt.{cell}" for cell in ("seed-11", "seed-12", "trial-1", "trial-2")]
    assert "places  accuracy" in out
    assert "Short prompt" in out
    ran: list[str] = []
    study = load_study(study_file).only(data=["places"], methods=["prompt"])
    run_study(study, study_file.with_name("out"), report=lambda cell, record: ran.append(cell.name))
    assert ran == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "polite kill"])
def test_a_stop_reaches_all_of_them(study_file, sent):
    study_file.write_text(study_file.read_text().replace("set = { ", 'set = { "training.epochs" = 90000, ', 2))
    process, out = start(study_file), study_file.with_name("out")
    deadline = time.monotonic() + 600
    while len(list((out / "runs").glob("*/checkpoint.safetensors"))) < 2:  # two cells: none is run twice
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(sent)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "Go on with: foreword compare" in err
    assert not list((out / "claims").glob("*.json"))
