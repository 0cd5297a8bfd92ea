"""Tables with a header row: comma-separated (csv) and tab-separated (tsv)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Literal

from foreword.data.readers.base import ReadOptions, read_lines
from foreword.data.records import Record
from foreword.errors import DataError


def read_csv(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream the rows of a comma-separated table; values are quoted unless ``quoting`` is false.

    Raises:
        DataError: the file cannot be read, or its header or a row is wrong.
    """
    return _read_table(file, delimiter=",", quoted=options.quoting is not False)


def read_tsv(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream the rows of a tab-separated table; ``"`` is ordinary unless ``quoting`` is true.

    Raises:
        DataError: the file cannot be read, or its header or a row is wrong.
    """
    return _read_table(file, delimiter="\t", quoted=options.quoting is True)


def _read_table(file: str, *, delimiter: str, quoted: bool) -> Iterator[Record]:
    rows = _read_rows(file, delimiter, quoted)
    header_line, header = next(rows, (0, []))
    _check_header(header, file, header_line)
    for line, row in rows:
        if len(row) != len(header):
            raise _wrong_width(row, header, file, line)
        yield Record(dict(zip(header, row, strict=True)), file, line)


def _read_rows(file: str, delimiter: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line it starts on: a quoted value may span lines."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(read_lines(file), delimiter=delimiter, quoting=quoting, strict=True)
    start = 1
    try:
        for row in reader:
            if row:
                yield start, row
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"not a valid row ({error})",
            file=file,
            line=start,
            hint='A quote may be left open; where `"` is an ordinary character, set `[data] quoting = false`'
            if quoted
            else None,
        ) from error


def _check_header(header: list[str], file: str, line: int) -> None:
    for number, name in enumerate(header, start=1):
        if not name.strip():
            raise DataError(
                f"column {number} of the header has no name",
                file=file,
                line=line,
                hint="The first row must name every column (a table saved with its index has one too many)",
            )
        if name in header[: number - 1]:
            raise DataError("comes twice in the header", file=file, line=line, field=name)


def _wrong_width(row: list[str], header: list[str], file: str, line: int) -> DataError:
    columns = ", ".join(header)
    return DataError(
        f"found {len(row)} columns, expected {len(header)} ({columns})",
        file=file,
        line=line,
        field=header[len(row)] if len(row) < len(header) else None,
        hint="A value that holds the separator must be quoted" if len(row) > len(header) else None,
    )
