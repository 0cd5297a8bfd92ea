"""JSON Lines: one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from foreword.data.nodes import kind
from foreword.data.readers.base import ReadOptions, parse_json, read_lines
from foreword.data.records import Record
from foreword.errors import DataError

_HINT = "JSON Lines holds one whole object on each line"


def read_json_lines(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream the records of a JSON Lines file; it takes no options.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    del options
    return parse_json_lines(read_lines(file), file)


def parse_json_lines(lines: Iterable[str], name: str, first: int = 1) -> Iterator[Record]:
    """Stream one record for each line that is not blank, from a file, a list or standard input.

    Args:
        lines: the lines, with or without their line ends.
        name: what messages call the source.
        first: number of the first of them.

    Raises:
        DataError: a line is not a JSON object, or the stream is not UTF-8.
    """
    try:
        for number, line in enumerate(lines, start=first):
            content = line.removeprefix("\ufeff") if number == 1 else line
            if content.strip():
                yield Record(_parse_object(content, name, number), name, number)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 ({error.reason})", file=name) from error


def _parse_object(line: str, file: str, number: int) -> dict[str, object]:
    try:
        value = parse_json(line)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated string")
        problem = "ends too early, " if cut else ""
        message = f"not valid JSON ({problem}{error.msg}, character {error.pos + 1})"
        raise DataError(message, file=file, line=number, hint=_HINT) from error
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", file=file, line=number) from error
    if not isinstance(value, dict):
        message = f"expected a JSON object, found {kind(value)}"
        raise DataError(message, file=file, line=number, hint=_HINT)
    return value
