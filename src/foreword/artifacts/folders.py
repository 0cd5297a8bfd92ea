"""Folders that exist whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foreword.errors import OutputError


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary sibling of ``path`` and rename it into place when the block ends well.

    A folder already there is replaced; a reader sees the old one or the new one. If the block
    raises, nothing is left behind.

    Raises:
        OutputError: the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        yield temporary
        for file in temporary.iterdir():
            _sync(file)
        _sync(temporary)
        temporary.chmod(0o755)
        retired = _retire(path)
        temporary.rename(path)
        _sync(path.parent)
        if retired is not None:
            shutil.rmtree(retired)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _retire(path: Path) -> Path | None:
    """Move an existing folder aside, under a name of its own."""
    if not path.exists():
        return None
    retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.rename(retired / path.name)
    return retired


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
