"""E2E: a table of meaning representations of restaurants and their texts (Novikova et al. 2017)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from foreword.data.readers.base import ReadOptions
from foreword.data.readers.delimited import read_csv
from foreword.data.records import Record

_SLOT = re.compile(r"\s*([^\[\],]+)\[([^\[\]]*)\]\s*(?:,|$)")


def read_e2e(file: str, options: ReadOptions) -> Iterator[Record]:
    """One record per meaning representation, in the order of their first rows; ``line`` is that of the first.

    Fields: ``source``, as Li & Liang 2021 write it (``name : Aromi | eatType : coffee shop``), ``mr``, as it stands in
    the file, and where the file has texts ``target``, the list of all that belong to it.

    Raises:
        DataError: the file cannot be read, is no such table, or a row has a representation that is not
            ``name[value], ...``, or no text.
    """
    found: dict[str, Record] = {}
    targets: dict[str, list[str]] = {}
    for row in read_csv(file, options):
        record = Record({name.lower(): value for name, value in row.fields.items()}, row.file, row.line)
        representation = record.text("mr").strip()
        found.setdefault(representation, record)
        if "ref" in record.fields:
            targets.setdefault(representation, []).append(record.text("ref").strip())
    for representation, record in found.items():
        fields = {"source": _text(representation, record), "mr": representation}
        given = targets.get(representation)
        yield Record(fields if given is None else {**fields, "target": given}, record.file, record.line)


def _text(representation: str, record: Record) -> str:
    slots, end = [], 0
    while match := _SLOT.match(representation, end):
        slots.append(f"{match[1].strip()} : {match[2].strip()}")
        end = match.end()
    if end < len(representation) or not slots:
        message = f"expected name[value], name[value], ..., found {representation[end:]!r:.40}"
        raise record.error(message, field="mr")
    return " | ".join(slots)
