"""What every reader shares: options, opening a file, and the words for the usual mishaps."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foreword.data.records import Record
from foreword.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read a file where its format leaves a choice; each reader looks only at its own.

    Attributes:
        token_column: conll, 0-based column of the token; negative counts from the end.
        tag_column: conll, column of the tag, counted in the same way.
        separator: conll and props, text between two columns; ``None`` means any run of spaces and tabs in conll, a tab
            in props.
        quoting: csv and tsv, whether ``"`` quotes a value; ``None`` means yes for csv, no for tsv.
        split: datasets, which split to read.
    """

    token_column: int = 0
    tag_column: int = -1
    separator: str | None = None
    quoting: bool | None = None
    split: str = "train"


Reader = Callable[[str, ReadOptions], Iterator[Record]]
"""Reads the file named by the first argument, one record at a time."""


def read_lines(file: str) -> Iterator[str]:
    r"""Stream the lines of a UTF-8 file, with their line ends, without a byte order mark.

    Only ``\n`` and ``\r\n`` end a line, so that line numbers agree with those of editors. A file whose name ends in
    ``.gz`` is unpacked on the way.

    Raises:
        DataError: the file is missing, is a folder, cannot be read or unpacked, or is not UTF-8.
    """
    number = 0
    try:
        with gzip.open(file) if is_packed(file) else Path(file).open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                yield decode_line(raw, file, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"cannot be unpacked, after {number} lines ({error})", file=file) from error
    except OSError as error:
        raise unreadable(file, error) from error


def decode_line(raw: bytes, file: str, line: int) -> str:
    """A line of a UTF-8 file; the first one without a byte order mark.

    Raises:
        DataError: it is not UTF-8.
    """
    try:
        return (raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8 (byte {error.start + 1} of the line is 0x{error.object[error.start]:02x})",
            file=file,
            line=line,
            hint="Save the file as UTF-8",
        ) from error


def is_packed(file: str) -> bool:
    """Whether a file's name says that gzip packed it."""
    return file.lower().endswith(".gz")


def read_text(file: str) -> str:
    """The whole text of a UTF-8 file.

    Raises:
        DataError: as for `read_lines`.
    """
    return "".join(read_lines(file))


def read_json(file: str) -> Any:
    """The value of a file that is one JSON text.

    Raises:
        DataError: the file cannot be read, or is not JSON as `parse_json` wants it.
    """
    try:
        return parse_json(read_text(file))
    except json.JSONDecodeError as error:
        message = f"not valid JSON ({error.msg}, column {error.colno})"
        raise DataError(message, file=file, line=error.lineno) from error
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", file=file) from error


def unreadable(file: str, error: OSError) -> DataError:
    """The `DataError` for a file that the operating system would not open or read."""
    if isinstance(error, FileNotFoundError):
        return DataError("no such file", file=file)
    if isinstance(error, IsADirectoryError) or Path(file).is_dir():
        return DataError("is a folder, expected a file", file=file)
    return DataError(f"cannot be read ({error.strerror or error})", file=file)


def parse_json(text: str) -> Any:
    """Parse JSON strictly: no ``NaN``, no repeated key, no half of a surrogate pair.

    Raises:
        ValueError: the text is not such JSON; a `json.JSONDecodeError` where the place is known.
    """
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if "\\ud" in text.lower() or not text.isascii():
        _check_characters(value)
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key '{repeated}' comes twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _check_characters(value: Any) -> None:
    """Refuse lone surrogates, which no tokenizer can take."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a surrogate pair, {error.object[error.start]!a}") from error
