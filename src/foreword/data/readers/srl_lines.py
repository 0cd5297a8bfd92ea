"""Propositions a line each, as the authors of P-Tuning v2 keep theirs."""

from __future__ import annotations

from collections.abc import Iterator

from foreword.data.readers.base import ReadOptions, read_lines
from foreword.data.readers.columns import split_blanks
from foreword.data.records import Record
from foreword.errors import DataError

BAR = "|||"


def read_srl_lines(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream one record per line that is not blank: ``index token token ... ||| tag tag ...``.

    Fields: ``tokens``; ``predicate``, the 0-based index of its word; ``tags``, one per token. It takes no options.

    Raises:
        DataError: the file cannot be read, or a line has another shape.
    """
    del options
    for number, raw in enumerate(read_lines(file), start=1):
        line = raw.rstrip("\r\n")
        if line.strip(" \t"):
            yield _record(split_blanks(line), file, number)


def _record(parts: list[str], file: str, line: int) -> Record:
    if BAR not in parts:
        raise DataError(f"expected 'index token token ... {BAR} tag tag ...', found no {BAR}", file=file, line=line)
    bar = len(parts) - 1 - parts[::-1].index(BAR)  # the last one: a token may look like it, a tag does not
    (index, *tokens), tags = parts[:bar] or [""], parts[bar + 1 :]
    if len(tokens) != len(tags):
        raise DataError(f"found {len(tokens)} tokens before {BAR} and {len(tags)} tags behind", file=file, line=line)
    if not (index.isascii() and index.isdigit()):
        raise DataError(f"expected the predicate's index first, found {index!r:.60}", file=file, line=line)
    return Record({"tokens": tokens, "predicate": int(index), "tags": tags}, file, line)
