"""Where examples come from: files of some format, or a list of dictionaries already in memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from foreword.data.readers import ReadOptions, read_records
from foreword.data.records import Record

_SEED = 11
"""Of which records are drawn and put aside: the data of a study must not change with the seed of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One side of the data (training, dev, or input).

    Attributes:
        files: read one after the other.
        items: records in memory, instead of files.
        format: a name in `foreword.data.readers.FORMATS`, or "auto".
        options: choices that some formats leave open.
        test_holdout: share of the records, in [0, 1), that is put aside for tests before anything else is chosen.
        limit: use only so many of the first records; all if None.
        sample: draw so many of those at random; all if None.
        holdout: share of what is left by then, in [0, 1), that is put aside to select on.
        held_out: which of the parts put aside this source is; None for the rest. What is put aside or drawn is so
            at random, and the same every time.
    """

    files: Sequence[str] = ()
    items: Sequence[Mapping[str, Any]] = ()
    format: str = "auto"
    options: ReadOptions = field(default_factory=ReadOptions)
    test_holdout: float = 0.0
    limit: int | None = None
    sample: int | None = None
    holdout: float = 0.0
    held_out: Literal["dev", "test"] | None = None

    @classmethod
    def of(cls, data: Source | str | Path | Iterable[Mapping[str, Any]]) -> Source:
        """A source from what a notebook has at hand: a path, or dictionaries."""
        if isinstance(data, Source):
            return data
        if isinstance(data, str | Path):
            return cls(files=(str(data),))
        return cls(items=tuple(data))

    def records(self) -> Iterator[Record]:
        """The records that are meant, in order.

        Raises:
            DataError: from the reader, naming file and line.
        """
        found = self._all_records()
        if self.test_holdout:
            found = _part(found, self.test_holdout, aside=self.held_out == "test")
        found = islice(found, self.limit)
        if self.sample is not None:
            found = iter(_drawn(list(found), self.sample))
        if self.holdout:
            found = _part(found, self.holdout, aside=self.held_out == "dev")
        return found

    def _all_records(self) -> Iterator[Record]:
        for file in self.files:
            yield from read_records(file, self.format, self.options)
        for number, item in enumerate(self.items, start=1):
            yield Record(item, "<memory>", number)

    def digests(self) -> dict[str, str]:
        """File name -> sha256 of its bytes (of all files in a folder, of the records in memory)."""
        found = {}
        for file in self.files:
            path = Path(file)
            parts = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            hashes = [_file_sha256(part) for part in parts if part.is_file()]
            found[path.name] = hashes[0] if len(hashes) == 1 else sha256("".join(hashes).encode()).hexdigest()
        if self.items:
            text = json.dumps(list(self.items), sort_keys=True, default=str)
            found["<memory>"] = sha256(text.encode()).hexdigest()
        return found


def _drawn(records: Sequence[Record], count: int) -> list[Record]:
    """``count`` of the records, all if there are not so many, in their order."""
    chosen = random.Random(_SEED).sample(range(len(records)), min(count, len(records)))
    return [records[number] for number in sorted(chosen)]


def _part(records: Iterable[Record], share: float, *, aside: bool) -> Iterator[Record]:
    """The records that are put aside, one at least, or all others."""
    kept = list(records)
    chosen = set(random.Random(_SEED).sample(range(len(kept)), min(len(kept), max(1, round(share * len(kept))))))
    return (record for number, record in enumerate(kept) if (number in chosen) == aside)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
