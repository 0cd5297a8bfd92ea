"""Folders and files that exist whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from foreword.errors import OutputError

UNFINISHED = ".tmp"
"""How the name of a file ends that is being written."""


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Fill a temporary sibling of ``path`` and rename it into place when the block ends well.

    A folder already there is moved aside and then deleted; between the two renames there is none.
    If the block raises, nothing is left behind and the old folder stays.

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
        _swap(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def whole_file(path: Path, *, mode: int | None = None) -> Iterator[BinaryIO]:
    """Fill a temporary sibling of ``path`` and rename it into place when the block ends well.

    It is on the disk before it has its name, and the name is on the disk before this returns. If the block raises,
    nothing is left behind, and a file already there stays.

    Args:
        path: of the file; its folder is there.
        mode: its permissions; those of any new file if None.

    Raises:
        OutputError: the place cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        unfinished.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, at once or not at all; what was there is replaced.

    Raises:
        OutputError: the place cannot be written.
    """
    with whole_file(path) as file:
        file.write(content)


def _swap(new: Path, path: Path) -> None:
    """Rename ``new`` to ``path`` and delete what was there; put it back if that fails."""
    if not path.exists():
        new.rename(path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    try:
        path.rename(aside / path.name)
        try:
            new.rename(path)
        except OSError:
            (aside / path.name).rename(path)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def rename_file(path: Path, name: str) -> None:
    """Give a file another name in its folder; the time of its last change is now.

    Raises:
        OutputError: it cannot be done.
    """
    try:
        os.utime(path)
        path.rename(path.with_name(name))
        _sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be renamed ({error.strerror})") from error


def make_folders(root: Path, *parts: str) -> Path:
    """A folder below ``root``, made where it is missing, with every step on the disk before the next is made.

    Raises:
        OutputError: it cannot be made.
    """
    folder = root
    try:
        for part in parts:
            parent, folder = folder, folder / part
            if folder.is_symlink():
                raise OutputError(f"{folder}: is a link, and nothing is written through it")
            folder.mkdir(exist_ok=True)
            _sync(parent)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error
    return folder


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
