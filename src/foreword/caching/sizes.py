"""Sizes as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def size_in_bytes(text: str) -> int:
    """Bytes that ``200MB`` or ``1.5GiB`` stand for.

    Raises:
        ValueError: it is no size.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS or float(match[1]) == 0:
        raise ValueError(f"'{text:.40}' is no size. Write a number and a unit, such as 200MB or 1.5GiB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def in_words(size: int) -> str:
    """A number of bytes with three digits or so: ``412 MB``."""
    for unit in ("GB", "MB", "kB"):
        factor = _UNITS[unit.upper()]
        if size >= factor:
            return f"{size / factor:.{1 if size < 10 * factor else 0}f} {unit}"
    return f"{size} bytes"
