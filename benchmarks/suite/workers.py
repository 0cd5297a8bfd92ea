"""Contenders in processes of their own, and the Python environments that peers need."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from typing import Any

from suite.timing import summary
from suite.worker import Unavailable, work

ROOT = Path(__file__).resolve().parents[2]
PINNED = {"adapters": ("torch==2.13.0", "transformers==4.57.6", "adapters==1.3.0")}
"""Peers that cannot share our environment -> what is installed for them."""


def python_of(environment: str | None, *, install: bool = True) -> Path:
    """The Python of a peer's environment, which is made where there is none yet; our own for None.

    Environments are kept in ``FOREWORD_BENCH_CACHE``, or else in ``~/.cache/foreword-bench``.

    Raises:
        Unavailable: it could not be made, or must not be.
    """
    if environment is None:
        return Path(sys.executable)
    wanted = PINNED[environment]
    cache = Path(os.environ.get("FOREWORD_BENCH_CACHE", Path.home() / ".cache" / "foreword-bench"))
    folder = cache / "-".join(name.replace("==", "-") for name in reversed(wanted))
    python, stamp = folder / "bin" / "python", folder / "complete"
    if stamp.exists():
        return python
    if not install:
        raise Unavailable(f"{folder} is not there; scripts/bench makes it")
    print(f"Installing {' '.join(wanted)} into {folder} ...", file=sys.stderr, flush=True)
    for command in (
        [sys.executable, "-m", "venv", "--clear", folder],
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"could not be installed: {_last_line(done.stderr)}")
    stamp.touch()
    return python


class Worker:
    """One contender, which stays in memory and takes a step when asked to.

    Args:
        job: what `suite.worker` is told: the module that runs it, and whatever that wants to know.
        environment: the peer's environment it needs; ours if None.
        inside: run it in a thread of this process, which starts sooner; what memory it takes is then unknown.
            Where another environment is needed, a process is started all the same, but nothing is installed.

    Attributes:
        reason: why it has stopped or never began; None as long as it works.
        report: what it said of itself in the end.
    """

    def __init__(self, job: Mapping[str, Any], environment: str | None = None, *, inside: bool = False) -> None:
        self.reason: str | None = None
        self.report: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the worker
        self._connection, far = Pipe()
        if inside and environment is None:
            self._thread = Thread(target=work, args=(far,), daemon=True)
            self._thread.start()
        else:
            try:
                python = python_of(environment, install=not inside)
            except Unavailable as reason:
                self.reason = str(reason)
                return
            folders = [ROOT / "benchmarks", *([ROOT / "src"] if environment is None else [])]
            self._process = subprocess.Popen(
                [python, "-m", "suite.worker", str(far.fileno())],
                pass_fds=[far.fileno()],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(map(str, folders)),
                    "OMP_NUM_THREADS": str(job["threads"]),
                },
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
            )
            far.close()
        self._connection.send(dict(job))

    def wait(self) -> None:
        """Until it is ready for a step, or has given a reason."""
        if self.reason is not None:
            return
        try:
            kind, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._errors.seek(0)
            kind, value = "unavailable", f"its process ended: {_last_line(self._errors.read())}"
        if kind == "unavailable":
            self.reason = value
        elif kind == "over":
            self.report = value

    def step(self) -> None:
        """Take one step; nothing where it does not work any more."""
        if self.reason is None:
            self._connection.send("step")
            self.wait()

    def summary(self, samples: Sequence[float], unit: str) -> dict[str, Any]:
        """What was measured of it, or why nothing was."""
        return {"unavailable": self.reason} if self.reason is not None else summary(samples, unit)

    def close(self) -> None:
        """End it, and keep its report."""
        if self.reason is None:
            self._connection.send("stop")
            self.wait()
        self._connection.close()
        self._errors.close()
        if self._process is not None:
            self._process.wait()


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no message")
