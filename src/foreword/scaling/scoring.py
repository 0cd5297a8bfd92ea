"""Files of JSON lines answered over Ray Data: cut into stretches, each answered by one of several copies of the model.

Only places in the file go through Ray, and answers come back; the workers read the lines themselves. So the file, like
the model, has to lie where all of them see it. A stretch is a block of `Predictor.stream`, so batches are those there
are without Ray.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from foreword.data.readers import parse_json_lines
from foreword.data.readers.base import decode_line, unreadable
from foreword.data.records import Record
from foreword.errors import ForewordError
from foreword.inference.encoding import in_words
from foreword.scaling.cluster import cluster

_RECORDS = 256
"""Of a stretch."""
_MOST_BLOCKS = 1000
"""Into which Ray Data divides the stretches."""


class Answering(Protocol):
    """What answers records: a `Predictor`, an `Ensemble` or an `Engine`."""

    notes: Counter[str]

    @property
    def warnings(self) -> list[str]:
        """What the user should know."""

    def stream(self, records: Iterable[Record], *, candidates: int, first: int) -> Iterator[dict[str, Any]]:
        """Answer records in order; the first of them has the number ``first``."""


class WorkerError(ForewordError):
    """What a worker found wrong, in its own words.

    Args:
        message: of the worker's error.
        code: that error's.
    """

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Scores:
    """Answers to the lines of a file, in order.

    Args:
        file: of JSON lines, as messages call it.
        make: what answers them; called in every worker.
        workers: copies of the model, each with a CPU.
        candidates: how many of the best answers are listed too.
    """

    def __init__(self, file: str, make: Callable[[], Answering], *, workers: int, candidates: int = 0) -> None:
        self._file, self._path, self._make = file, Path(file).absolute(), make
        self._workers, self._candidates = workers, candidates
        self._notes: Counter[str] = Counter()
        self._caveats: dict[str, None] = {}

    def __iter__(self) -> Iterator[bytes]:
        """Answers as JSON lines, many at a time.

        Raises:
            DataError: naming file and line; the first there is.
            ForewordError: the model cannot be loaded, or whatever else is wrong.
        """
        stretches = list(_stretches(self._file))
        if not stretches:
            return
        with cluster(self._workers + 1):  # one is left for what Ray Data does beside
            import ray.data  # noqa: PLC0415  with the environment of `cluster`

            logging.getLogger("ray.data").setLevel(logging.ERROR)
            context = ray.data.DataContext.get_current()
            context.enable_progress_bars = False
            context.execution_options.preserve_order = True
            answered = ray.data.from_items(
                stretches, override_num_blocks=min(len(stretches), _MOST_BLOCKS)
            ).map_batches(
                _Worker,
                fn_constructor_args=(self._file, self._path, self._make, self._candidates),
                compute=ray.data.ActorPoolStrategy(size=min(self._workers, len(stretches))),
                batch_size=1,
                num_cpus=1,
            )
            for row in answered.iter_rows():
                told = json.loads(row["told"])
                if "error" in told:
                    raise WorkerError(told["error"], told["code"])
                self._notes.update(told["notes"])
                self._caveats |= dict.fromkeys(told["caveats"])
                yield row["lines"]

    @property
    def warnings(self) -> list[str]:
        """What had to be done so far to make inputs fit, and what else the workers warned of."""
        return [*self._caveats, *in_words(self._notes)]


class _Worker:
    """One copy of the model, in a process of its own.

    Errors are part of what it returns, so that the one that is told is the first in the file.
    """

    def __init__(self, file: str, path: Path, make: Callable[[], Answering], candidates: int) -> None:
        self._file, self._path, self._make, self._candidates = file, path, make, candidates

    @cached_property
    def _answering(self) -> Answering:
        return self._make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Answer one stretch."""
        start, size, line, record = (int(batch[name][0]) for name in ("start", "size", "line", "record"))
        try:
            records = parse_json_lines(self._lines(start, size, line), self._file, first=line)
            found = self._answering.stream(records, candidates=self._candidates, first=record)
            lines = b"".join(json.dumps(answer, ensure_ascii=False).encode() + b"\n" for answer in found)
        except ForewordError as error:
            return {"lines": [b""], "told": [json.dumps({"error": str(error), "code": error.code})]}
        notes = dict(self._answering.notes)
        self._answering.notes.clear()
        told = json.dumps({"notes": notes, "caveats": self._answering.warnings})
        return {"lines": [lines], "told": [told]}

    def _lines(self, start: int, size: int, line: int) -> Iterator[str]:
        try:
            with self._path.open("rb") as stream:
                stream.seek(start)
                content = stream.read(size)
        except OSError as error:
            raise unreadable(self._file, error) from error
        for number, raw in enumerate(BytesIO(content), start=line):
            yield decode_line(raw, self._file, number)


def _stretches(file: str) -> Iterator[dict[str, int]]:
    """Where stretches of a file start, in bytes, lines and records before them, and how many bytes they have."""
    start, line, first = 0, 1, 0
    place = records = 0
    try:
        with Path(file).open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                place += len(raw)
                records += bool(raw.decode("utf-8", "replace").strip())  # whoever answers it looks closer
                if records - first == _RECORDS:
                    yield {"start": start, "size": place - start, "line": line, "record": first}
                    start, line, first = place, number + 1, records
    except OSError as error:
        raise unreadable(file, error) from error
    if records > first:
        yield {"start": start, "size": place - start, "line": line, "record": first}
