"""What a run costs while it goes on: seconds per step, and memory."""

from __future__ import annotations

import ctypes
import gc
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """A tracker that measures.

    Attributes:
        steps, step_seconds: optimizer steps of this sitting, and the time they took.
        peak_memory: bytes by which training rose at most above what stood before its first step; 0 where the
            system does not tell. On a device with memory of its own, that memory; else what the process has resident.
    """

    def __init__(self) -> None:
        self.steps, self.step_seconds, self.peak_memory = 0, 0.0, 0
        self._before, self._last = 0, 0.0

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Take note of one event."""
        del step, values
        now = time.perf_counter()
        if kind == "start":
            self._before = _reset_peak()
        elif kind == "step":
            self.steps += 1
            self.step_seconds += now - self._last
        elif kind == "end":
            self.peak_memory = max(_peak() - self._before, 0)
        self._last = time.perf_counter()

    def close(self) -> None:
        """Nothing is kept open."""


def _reset_peak() -> int:
    """Begin to measure anew; bytes in use now."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that was freed but not given back would hide a rise
        _RESET.write_text("5")  # the high-water mark of a process, see proc(5)
    except (OSError, AttributeError):
        return 0
    return _status("VmRSS")


def _peak() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _status(field: str) -> int:
    """A size in the status of this process, in bytes; 0 where the system has none."""
    if not _STATUS.is_file():
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
