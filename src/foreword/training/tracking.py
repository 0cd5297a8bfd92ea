"""What happens during a run, told to whoever listens: a log file, TensorBoard, a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from foreword.errors import ForewordError

STEPS_PER_LINE = 10
"""Of the single steps, every tenth is logged."""


class Tracker(Protocol):
    """Listens to a run. ``kind`` is 'start', 'step', 'evaluation' or 'end'.

    A tracker that has seen enough ends the run by raising an exception of its own; the run lets it through.
    """

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Take note of one event."""

    def close(self) -> None:
        """The run is over, for better or worse."""


class JSONLinesTracker:
    """Writes every event but single steps to a file, one JSON object a line.

    Args:
        path: the file.
        append: whether to go on in it. A 'start' event then says at which step the run was taken up;
            later lines before it belong to steps that were done again.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self._file = path.open("a" if append else "w", encoding="utf-8")

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write one line."""
        if kind != "step" or step % STEPS_PER_LINE == 0:
            self._file.write(json.dumps({"event": kind, "step": step, **values}) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def require_tensorboard() -> None:
    """See that TensorBoard is there before anything is written for it.

    Raises:
        ForewordError: it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ForewordError("training.tensorboard needs TensorBoard. Run: pip install 'foreword[tensorboard]'")


class TensorBoardTracker:
    """Writes numbers for TensorBoard.

    Raises:
        ForewordError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  optional

        self._writer: Any = SummaryWriter(str(folder))

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Write every number of the event under its kind."""
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class Trackers:
    """Several trackers as one."""

    def __init__(self, *trackers: Tracker) -> None:
        self._trackers = trackers

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Tell all."""
        for tracker in self._trackers:
            tracker.event(kind, step, values)

    def close(self) -> None:
        """Close all."""
        for tracker in self._trackers:
            tracker.close()
