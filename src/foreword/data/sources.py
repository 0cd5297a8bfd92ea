"""Where examples come from: files of some format, or a list of dictionaries already in memory."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from itertools import islice
from pathlib import Path
from typing import Any

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
        limit: use only so many of the first records; all if None.
        sample: draw so many of those at random, the same ones every time; all if None.
        holdout: share of what is left by then, in [0, 1), that is put aside at random, the same every time.
        held_out: whether this source is what was put aside, and not the rest.
    """

    files: Sequence[str] = ()
    items: Sequence[Mapping[str, Any]] = ()
    format: str = "auto"
    options: ReadOptions = field(default_factory=ReadOptions)
    limit: int | None = None
    sample: int | None = None
    holdout: float = 0.0
    held_out: bool = False

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
        found: Iterator[Record] = islice(self._all_records(), self.limit)
        if self.sample is not None:
            found = iter(_drawn(list(found), self.sample))
        if not self.holdout:
            return found
        kept = list(found)
        aside = set(random.Random(_SEED).sample(range(len(kept)), max(1, round(self.holdout * len(kept)))))
        return (record for number, record in enumerate(kept) if (number in aside) == self.held_out)

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


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
