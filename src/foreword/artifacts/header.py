"""The header of a safetensors file, checked before anything it describes takes memory."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from foreword.data.readers.base import parse_json
from foreword.errors import ArtifactError

MOST_HEADER_BYTES, MOST_TENSORS, MOST_AXES = 1 << 20, 4096, 8
_PREFIX = 8
"""Bytes before the header: its length, as an unsigned little-endian number."""

_ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ"), 1),
}


def check_header(file: BinaryIO, size: int, where: Path) -> None:
    """Refuse a file whose header does not describe, byte for byte, what the file holds.

    The bytes after the header must be those of the tensors it lists, in some order, without gaps or overlaps, so that
    no more is allocated than the file has. At most 1 MiB of it is read.

    Args:
        file: open at its start; is left after the header.
        size: of the file, in bytes.
        where: what errors begin with.

    Raises:
        ArtifactError: saying what is wrong.
    """
    length = int.from_bytes(file.read(_PREFIX), "little")
    if size < _PREFIX or length > size - _PREFIX:
        raise ArtifactError(f"{where}: is no safetensors file (its header would have {length} bytes, the file {size})")
    if length > MOST_HEADER_BYTES:
        raise ArtifactError(f"{where}: its header has {length} bytes, more than {MOST_HEADER_BYTES}")
    try:
        header = parse_json(file.read(length).decode("utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{where}: is no safetensors file (its header: {error})") from error
    if not isinstance(header, dict):
        raise ArtifactError(f"{where}: is no safetensors file (its header is no table)")
    header.pop("__metadata__", None)
    if len(header) > MOST_TENSORS:
        raise ArtifactError(f"{where}: holds {len(header)} tensors, more than {MOST_TENSORS}")
    stretches = sorted(_stretch(name, entry, where) for name, entry in header.items())
    edges = [(0, 0), *stretches, (size - _PREFIX - length,) * 2]
    if any(before[1] != after[0] for before, after in pairwise(edges)):
        raise ArtifactError(f"{where}: its tensors overlap, leave gaps, or do not end where the file does")


def _stretch(name: str, entry: Any, where: Path) -> tuple[int, int]:
    """First byte of a tensor, and the one after its last, counted from the end of the header."""
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)], **rest} if not rest:
            whole = all(type(n) is int and n >= 0 for n in (*shape, start, end)) and len(shape) <= MOST_AXES
            if whole and dtype in _ITEM_BYTES and end - start == prod(shape) * _ITEM_BYTES[dtype]:
                return start, end
    raise ArtifactError(f"{where}: its header says {str(entry)!r:.100} of tensor {name!r:.60}, which is none")
