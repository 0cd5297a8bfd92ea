"""Measurements that are programs of their own, with results of their own form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from suite.options import Options

FOLDER = Path(__file__).resolve().parents[1]
PROGRAMS = {"engine": "engine.py", "serving": "serving.py", "registry": "registry_faults.py"}
"""Group -> file: ever more tasks on one model, the server under load, a registry under faults."""


def run_program(name: str, options: Options) -> None:
    """Run one of them, and let it print and write what it finds.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, str(FOLDER / PROGRAMS[name]), "--out", str(options.out / name)]
    if name != "registry":
        command += ["--threads", str(options.threads)]
    subprocess.run([*command, *["--smoke"] * options.smoke], check=True)
