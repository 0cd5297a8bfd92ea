"""Rows of columns with blank lines between sentences, as all CoNLL formats have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from foreword.data.readers.base import read_lines
from foreword.errors import DataError

_BLANKS = re.compile(r"[ \t]+")
_UNIVERSAL_EXTRAS = re.compile(r"#|\d+[-.]\d+[ \t]")
"""In CoNLL-U: comments, and the lines of multi-word tokens and of empty nodes."""


class Row(NamedTuple):
    """The columns of one token, and the 1-based line they stand on."""

    line: int
    columns: list[str]


def read_sentences(file: str, separator: str | None) -> Iterator[list[Row]]:
    """Stream the sentences of a file, none of them empty.

    Args:
        file: a ``.conllu`` file is read without its comments and the lines of more or less than a word.
        separator: text between two columns; ``None`` means any run of spaces and tabs.

    Raises:
        DataError: the file cannot be read.
    """
    universal = Path(file).suffix.lower() == ".conllu"
    sentence: list[Row] = []
    for number, raw in enumerate(read_lines(file), start=1):
        line = raw.rstrip("\r\n")
        if universal and _UNIVERSAL_EXTRAS.match(line):
            continue
        if line.strip(" \t") and not line.startswith("-DOCSTART-"):
            sentence.append(Row(number, line.split(separator) if separator else split_blanks(line)))
        elif sentence:
            yield sentence
            sentence = []
    if sentence:
        yield sentence


def split_blanks(line: str) -> list[str]:
    """A line cut at runs of spaces and tabs."""
    # Not `str.split()`: a token may hold a no-break space, which is no separator here.
    return _BLANKS.split(line.strip(" \t"))


def cell(row: Row, column: int, field: str, file: str) -> str:
    """The value in a column.

    Raises:
        DataError: it is blank; names ``field``.
    """
    value = row.columns[column]
    if not value.strip():
        raise DataError("is empty", file=file, line=row.line, field=field)
    return value
