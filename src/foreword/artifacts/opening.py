"""Files opened without following a link, whoever put it there."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from foreword.errors import ArtifactError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_plain(root: Path, *parts: str) -> BufferedReader:
    """Open a file below a folder, one part of its path after the other.

    The folder itself may be a link, as its user chose it. Nothing below it may: whoever made an artifact has no say
    in what else of this machine is read. A pipe is not waited for.

    Args:
        root: the folder.
        parts: names of folders below it, and of the file; none of them has a separator in it.

    Raises:
        ArtifactError: there is no such file, it is none, or a part of its path is a link.
    """
    path = root.joinpath(*parts)
    handle = _open(root, parts, os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ArtifactError(f"{path}: is missing")
    return os.fdopen(handle, "rb")


@contextmanager
def entries(root: Path, *parts: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What lies in a folder below another, found in the same way.

    Raises:
        ArtifactError: there is no such folder, or a part of its path is a link.
    """
    handle = _open(root, parts, os.O_DIRECTORY)
    try:
        with os.scandir(handle) as found:
            yield found
    finally:
        os.close(handle)


def below(root: Path, *parts: str) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Everything below a folder that is no folder, at any depth: its path in parts, and whether it is a plain file.

    A link is such a thing itself, whatever it leads to. Where there is no folder, nothing is below it.
    """
    try:
        with entries(root, *parts) as found:
            seen = [(e.name, e.is_dir(follow_symlinks=False), e.is_file(follow_symlinks=False)) for e in found]
    except ArtifactError:
        return
    for name, folder, plain in sorted(seen):
        if folder:
            yield from below(root, *parts, name)
        else:
            yield (*parts, name), plain


def _open(root: Path, parts: Sequence[str], last: int) -> int:
    """A handle on what lies at the end of a path, the last part of which is opened with the flag ``last`` besides."""
    place = root
    handle = -1
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for number, part in enumerate(parts, start=1):
            place = place / part
            inner = os.open(part, _FLAGS | (last if number == len(parts) else os.O_DIRECTORY), dir_fd=handle)
            os.close(handle)
            handle = inner
    except OSError as error:
        if handle >= 0:
            os.close(handle)
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and place.is_symlink():
            raise ArtifactError(f"{place}: is a link. Copy the artifact with its links followed (cp -rL)") from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise ArtifactError(f"{root.joinpath(*parts)}: is missing") from error
        raise ArtifactError(f"{place}: cannot be read ({error.strerror})") from error
    return handle
