"""The group `startup`: from the command line to the first answer, in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import foreword as fw
from suite.options import Options
from suite.pretrained import pretrained
from suite.timing import alternated, summary

ROUNDS = 9
TEXT = "a warm funny film"
IMPORTED = """
import sys
from foreword.cli.main import main
sys.argv = ["foreword", "--help"]
try:
    main()
finally:
    print(sum(name.split(".")[0] in ("torch", "transformers") for name in sys.modules), file=sys.stderr)
"""
BARE = """
import sys
import torch
from transformers import AutoModel, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1])
with torch.inference_mode():
    model(**tokenizer([sys.argv[2]], return_tensors="pt"))
"""


def startup(options: Options) -> dict[str, Any]:
    """Seconds of whole commands, each in a process of its own; and how many modules of torch the help imports."""
    run = partial(_run, threads=options.threads)
    foreword = [sys.executable, "-m", "foreword"]
    with pretrained(tiny=options.smoke) as model, tempfile.TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "artifact"
        data = [{"text": TEXT, "label": label} for label in ("good", "bad")]
        backbone = fw.load_backbone(model.name)
        fw.train(backbone, fw.PTuningV2(), fw.Classification(), train=data, dev=data, progress=False, epochs=1).save(
            artifact
        )
        line = json.dumps({"text": TEXT})
        commands = {
            "Python, nothing": lambda: run([sys.executable, "-c", ""]),
            "foreword --help": lambda: run([*foreword, "--help"]),
            "Foreword, predict one line": lambda: run([*foreword, "predict", str(artifact)], line),
            "transformers, one forward": lambda: run([sys.executable, "-c", BARE, model.folder, TEXT]),
        }
        times = alternated(
            {name: one for name, one in commands.items() if options.wanted(name)}, *options.plan(ROUNDS, 1)
        )
    modules = int(run([sys.executable, "-c", IMPORTED]).stderr)
    return {
        "seconds": {name: summary(samples, "s") for name, samples in times.items()},
        "imports": {"foreword --help": summary([modules], "modules")},
    }


def _run(command: Sequence[str], given: str = "", *, threads: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else our files alone are compiled again every time
    return subprocess.run(command, input=given, env=environment, capture_output=True, text=True, check=True)
