"""Readers turn a data file of any supported format into a stream of records.

A new format is one file with a function ``(file, options) -> Iterator[Record]``, and one line
in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from foreword.data.readers.base import Reader, ReadOptions, is_packed
from foreword.data.readers.conll import read_conll
from foreword.data.readers.dart import read_dart
from foreword.data.readers.delimited import read_csv, read_tsv
from foreword.data.readers.e2e import read_e2e
from foreword.data.readers.hf_datasets import HUB_PREFIX, MARKERS, read_datasets
from foreword.data.readers.json_lines import parse_json_lines, read_json_lines
from foreword.data.readers.mrqa import read_mrqa
from foreword.data.readers.props import read_props
from foreword.data.readers.squad import read_squad
from foreword.data.readers.srl_lines import read_srl_lines
from foreword.data.readers.webnlg import read_webnlg
from foreword.data.records import Record
from foreword.errors import DataError

__all__ = ["FORMATS", "HUB_PREFIX", "ReadOptions", "Reader", "detect_format", "parse_json_lines", "read_records"]

FORMATS: dict[str, Reader] = {
    "jsonl": read_json_lines,
    "csv": read_csv,
    "tsv": read_tsv,
    "conll": read_conll,
    "props": read_props,
    "srl-lines": read_srl_lines,
    "squad": read_squad,
    "e2e": read_e2e,
    "webnlg": read_webnlg,
    "dart": read_dart,
    "mrqa": read_mrqa,
    "datasets": read_datasets,
}
"""Name of a format, as in ``[data] format``, -> its reader."""

_SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "squad",
    ".conll": "conll",
    ".conllu": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".txt": "conll",
    ".props": "props",
    ".xml": "webnlg",
}
_HINT = 'Name the format in the recipe, as in `[data] format = "jsonl"`; there are: ' + ", ".join(FORMATS)
_DEFAULTS = ReadOptions()


def read_records(path: str | Path, format: str = "auto", options: ReadOptions = _DEFAULTS) -> Iterator[Record]:
    """Stream the records of a file; those of lines are never held in memory whole.

    Args:
        path: a file (packed by gzip where its name ends in .gz), a folder of the `datasets` library, or
            ``hub:owner/name[/config]``.
        format: a name in `FORMATS`, or ``"auto"`` to go by the name of the file.
        options: choices that some formats leave open.

    Raises:
        DataError: at once if the format is unknown; while reading if the file cannot be read, is
            not what its format says, or holds no records.
    """
    file = str(path)
    name = detect_format(file) if format == "auto" else format
    if name not in FORMATS:
        raise DataError(f"unknown format '{name}'", file=file, hint=_HINT)
    return _at_least_one(FORMATS[name](file, options), file)


def detect_format(path: str | Path) -> str:
    """The format, a key of `FORMATS`, that the name of a file or the look of a folder says.

    Raises:
        DataError: they do not say; the message lists the formats.
    """
    file, place = str(path), Path(path)
    if file.startswith(HUB_PREFIX) or any((place / marker).is_file() for marker in MARKERS):
        return "datasets"
    if place.is_dir():
        raise DataError(f"is a folder without {' or '.join(MARKERS)}", file=file, hint=_HINT)
    suffix = (place.with_suffix("") if is_packed(file) else place).suffix.lower()
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if place.name.startswith("eng."):  # eng.train and its sisters, the files of CoNLL-2003
        return "conll"
    if not place.exists():
        raise DataError("no such file", file=file)
    raise DataError(f"cannot tell the format from the suffix '{suffix}'", file=file, hint=_HINT)


def _at_least_one(records: Iterator[Record], file: str) -> Iterator[Record]:
    first = next(records, None)
    if first is None:
        raise DataError("no records in it", file=file)
    yield first
    yield from records
