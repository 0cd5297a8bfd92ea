"""The inside of a worker: one contender, which takes a step whenever it is its turn.

    python -m suite.worker CONNECTION

It runs in the environments of peers too, so it knows nothing of Foreword and of no library but torch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import nn

PACKAGES = ("torch", "transformers", "foreword", "peft", "adapters")


class Over(Exception):  # noqa: N818  an event, not a mistake
    """No more steps are wanted."""


class Unavailable(Exception):  # noqa: N818  an answer, not a mistake
    """This contender cannot run here; the message says why."""


class Turns:
    """What a contender is handed: it calls `next` before every step.

    Args:
        connection: to the one who asks for steps.
        device: where the steps run.
    """

    def __init__(self, connection: Connection, device: str) -> None:
        self._connection, self._cuda, self._start = connection, device.startswith("cuda"), 0

    def loaded(self, model: nn.Module) -> None:
        """The pretrained model is in memory, and nothing else: what comes now counts.

        Args:
            model: every weight of which is read once, since files are brought into memory only as they are read.
        """
        for weight in model.parameters():
            weight.detach().sum()
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of loading
        self._start = self._memory("VmRSS")

    def next(self) -> None:
        """Say that the last step is done, and wait until the next one is wanted.

        Raises:
            Over: none is.
        """
        if self._cuda:
            torch.cuda.synchronize()
        self._connection.send(("done", None))
        if self._connection.recv() != "step":
            raise Over

    def report(self) -> dict[str, Any]:
        """Peak memory in bytes since the model was loaded, above what it was then; versions."""
        return {"peak": self._memory("VmHWM") - self._start, "versions": versions()}

    def _memory(self, field: str) -> int:
        if self._cuda:
            return torch.cuda.max_memory_allocated() if field == "VmHWM" else torch.cuda.memory_allocated()
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def versions() -> dict[str, str]:
    """Those of the installed libraries that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def work(connection: Connection) -> None:
    """Run the contender that the connection names until it is told to stop."""
    job: Mapping[str, Any] = connection.recv()
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    turns = Turns(connection, job["device"])
    try:
        import_module(job["run"]).run(job, turns)
    except Over:
        connection.send(("over", turns.report()))
    except Unavailable as reason:
        connection.send(("unavailable", str(reason)))
    except Exception as error:  # whatever a peer raises is its result
        connection.send(("unavailable", f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    sys.modules["suite.worker"] = sys.modules["__main__"]  # one class `Over`, whatever name it is imported by
    os.environ["HF_HUB_OFFLINE"] = "1"
    work(Connection(int(sys.argv[1])))
