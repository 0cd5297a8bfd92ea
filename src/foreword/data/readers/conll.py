"""CoNLL columns: one token a line, a blank line between sentences."""

from __future__ import annotations

from collections.abc import Iterator

from foreword.data.readers.base import ReadOptions
from foreword.data.readers.columns import Row, cell, read_sentences
from foreword.data.records import Record
from foreword.errors import DataError


def read_conll(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream one record per sentence, with the fields ``tokens``, ``tags`` and ``lines``.

    All three are lists of one length; ``lines`` holds 1-based line numbers. ``tags`` is left out
    where the columns of tokens and tags are the same one, as in a file of tokens only.

    Raises:
        DataError: the file cannot be read, a line has a different number of columns from the first
            or lacks the asked columns, or a token or a tag is empty.
    """
    width = 0
    for sentence in read_sentences(file, options.separator):
        if not width:
            width = len(sentence[0].columns)
            _check_options(options, sentence[0], file)
        for row in sentence:
            _check_width(row, width, file)
        yield _record(sentence, options, file)


def _check_options(options: ReadOptions, row: Row, file: str) -> None:
    width = len(row.columns)
    for name, column in (("token_column", options.token_column), ("tag_column", options.tag_column)):
        expected = column + 1 if column >= 0 else -column
        if width < expected:
            raise DataError(
                f"found {width} columns, expected at least {expected} because {name} = {column}",
                file=file,
                line=row.line,
            )


def _check_width(row: Row, width: int, file: str) -> None:
    if len(row.columns) != width:
        raise DataError(
            f"found {len(row.columns)} columns, expected {width} as on the first line with a token",
            file=file,
            line=row.line,
            hint='If columns are set apart by tabs and tokens hold spaces, set `[data] separator = "\\t"`; '
            'if this is a table with a header, set `[data] format = "tsv"`',
        )


def _record(sentence: list[Row], options: ReadOptions, file: str) -> Record:
    width = len(sentence[0].columns)
    picked = {"tokens": options.token_column, "tags": options.tag_column}
    if picked["tokens"] % width == picked["tags"] % width:
        del picked["tags"]
    fields: dict[str, list[str] | list[int]] = {
        name: [cell(row, column, name, file) for row in sentence] for name, column in picked.items()
    }
    fields["lines"] = [row.line for row in sentence]
    return Record(fields, file, sentence[0].line)
