"""The folder of a study: one file per cell that is over, and claims on those that are running.

FOLDER/
  cells/NAME-KEY.json     what came of a cell
  claims/KEY.lock         held by the process that runs the cell; the system lets go of it when the process ends
  claims/KEY.json         which process that is, since when
  runs/KEY/               the run while it goes on, with its checkpoint (and the artifact, where it is kept)
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from foreword.artifacts.folders import write_whole
from foreword.errors import ForewordError, OutputError
from foreword.studies.cells.cell import Cell, CellRecord


class Store:
    """What is known of the cells of a study. Several processes may use one folder.

    Args:
        folder: made when the first cell is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cells, self._claims, self._runs = folder / "cells", folder / "claims", folder / "runs"
        self._read: dict[Path, tuple[int, CellRecord]] = {}

    def records(self) -> dict[str, CellRecord]:
        """Key -> what came of the cell, for all that are over.

        Raises:
            ForewordError: a file there is not one of ours.
        """
        found = {}
        for path in sorted(self._cells.glob("*.json")):
            stamp = path.stat().st_mtime_ns
            if path not in self._read or self._read[path][0] != stamp:
                self._read[path] = (stamp, _read_record(path))
            record = self._read[path][1]
            found[record.key] = record
        return found

    def write(self, cell: Cell, record: CellRecord) -> None:
        """Keep what came of a cell; what was known of it is replaced.

        Raises:
            OutputError: the folder cannot be written.
        """
        _make(self._cells)
        path = next(self._cells.glob(f"*-{cell.key}.json"), self._cells / f"{cell.name}-{cell.key}.json")
        write_whole(path, f"{record.model_dump_json(indent=1, exclude_none=True)}\n".encode())

    @contextmanager
    def claim(self, cell: Cell) -> Iterator[float | None]:
        """Be the only one to run a cell.

        Yields:
            None, or when a process began that died with this cell in its hands.

        Raises:
            Taken: another process has it.
        """
        _make(self._claims)
        lock, note = FileLock(self._claims / f"{cell.key}.lock"), self._claims / f"{cell.key}.json"
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise Taken(cell.name) from error
        try:
            left_by = json.loads(note.read_text("utf-8"))["began"] if note.is_file() else None
            write_whole(note, json.dumps({"pid": os.getpid(), "began": time.time(), "cell": cell.name}).encode())
            yield left_by
        finally:
            note.unlink(missing_ok=True)
            lock.release()

    def run_folder(self, cell: Cell) -> Path:
        """Where a cell runs."""
        return self._runs / cell.key

    def clear(self, cell: Cell) -> None:
        """Forget an unfinished run."""
        shutil.rmtree(self.run_folder(cell), ignore_errors=True)


class Taken(Exception):  # noqa: N818  an event, not a mistake
    """Another process is running the cell."""


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error


def _read_record(path: Path) -> CellRecord:
    try:
        return CellRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ForewordError(
            f"{path}: not the file of a finished cell ({where + ': ' if where else ''}{first['msg']}). Delete it to "
            "run that cell again"
        ) from error
