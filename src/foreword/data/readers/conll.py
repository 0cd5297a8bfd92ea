"""CoNLL columns: one token a line, a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from foreword.data.readers.base import ReadOptions, read_lines
from foreword.data.records import Record
from foreword.errors import DataError

_BLANKS = re.compile(r"[ \t]+")
_UNIVERSAL_EXTRAS = re.compile(r"#|\d+[-.]\d+[ \t]")
"""In CoNLL-U: comments, and the lines of multi-word tokens and of empty nodes."""


class _Row(NamedTuple):
    line: int
    columns: list[str]


def read_conll(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream one record per sentence, with the fields ``tokens``, ``tags`` and ``lines``.

    All three are lists of one length; ``lines`` holds 1-based line numbers. ``tags`` is left out
    where the columns of tokens and tags are the same one, as in a file of tokens only.

    Raises:
        DataError: the file cannot be read, a line has a different number of columns from the first
            or lacks the asked columns, or a token or a tag is empty.
    """
    width = 0
    for sentence in _read_sentences(file, options.separator):
        if not width:
            width = len(sentence[0].columns)
            _check_options(options, sentence[0], file)
        for row in sentence:
            _check_width(row, width, file)
        yield _record(sentence, options, file)


def _read_sentences(file: str, separator: str | None) -> Iterator[list[_Row]]:
    universal = Path(file).suffix.lower() == ".conllu"
    sentence: list[_Row] = []
    for number, raw in enumerate(read_lines(file), start=1):
        line = raw.rstrip("\r\n")
        if universal and _UNIVERSAL_EXTRAS.match(line):
            continue
        if line.strip(" \t") and not line.startswith("-DOCSTART-"):
            sentence.append(_Row(number, _columns(line, separator)))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def _columns(line: str, separator: str | None) -> list[str]:
    # Not `str.split()`: a token may hold a no-break space, which is no separator here.
    return line.split(separator) if separator else _BLANKS.split(line.strip(" \t"))


def _check_options(options: ReadOptions, row: _Row, file: str) -> None:
    width = len(row.columns)
    for name, column in (("token_column", options.token_column), ("tag_column", options.tag_column)):
        expected = column + 1 if column >= 0 else -column
        if width < expected:
            raise DataError(
                f"found {width} columns, expected at least {expected} because {name} = {column}",
                file=file,
                line=row.line,
            )


def _check_width(row: _Row, width: int, file: str) -> None:
    if len(row.columns) != width:
        raise DataError(
            f"found {len(row.columns)} columns, expected {width} as on the first line with a token",
            file=file,
            line=row.line,
            hint='If columns are set apart by tabs and tokens hold spaces, set `[data] separator = "\\t"`; '
            'if this is a table with a header, set `[data] format = "tsv"`',
        )


def _record(sentence: list[_Row], options: ReadOptions, file: str) -> Record:
    width = len(sentence[0].columns)
    picked = {"tokens": options.token_column, "tags": options.tag_column}
    if picked["tokens"] % width == picked["tags"] % width:
        del picked["tags"]
    fields: dict[str, list[str] | list[int]] = {
        name: [_cell(row, column, name, file) for row in sentence] for name, column in picked.items()
    }
    fields["lines"] = [row.line for row in sentence]
    return Record(fields, file, sentence[0].line)


def _cell(row: _Row, column: int, field: str, file: str) -> str:
    value = row.columns[column]
    if not value.strip():
        raise DataError("is empty", file=file, line=row.line, field=field)
    return value
