"""Tensors in a folder that processes of a machine share.

One file per tensor, named by its key: a checksum over key and numbers, then the numbers. A file appears whole or not at
all. One that is damaged, of another length, or gone is as if it had never been there, so the folder may be emptied or
removed at any time.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

_CHECKSUM = 16
_LEFT = 0.9
"""Share of the budget that is left full when room is made, so that it is not made for every file."""
_FORGOTTEN = 3600.0
"""Seconds after which a file that nobody finished is nobody's."""


class DiskStore:
    """Tensors by key, up to a number of bytes, which all processes that use the folder count together.

    As in memory, what was not used longest leaves first, and nothing that the run in progress has used. Processes learn
    of each other's files when they make room.

    Args:
        folder: made when something is put there, for its owner alone, since states tell of the texts they are of.
        budget: most bytes.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self.folder, self.budget = folder, budget
        self._began = time.time()
        self._bytes: int | None = None  # known when it is first asked for
        self._full = False

    @property
    def size(self) -> int:
        """Taken by what is kept, as far as this process knows."""
        if self._bytes is None:
            self._bytes = sum(size for _, size, _ in self._files())
        return self._bytes

    def begin(self) -> None:
        """A new run begins: what only others have used may leave."""
        self._began, self._full = time.time(), False

    def get(self, key: bytes, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """What was put under ``key``, if it is still there and whole; shape and type are those of what is expected."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            if path.stat().st_mtime < self._began:
                os.utime(path)  # so that it is known to be in use
        except OSError:
            return None
        checksum, numbers = content[:_CHECKSUM], bytearray(content[_CHECKSUM:])
        if len(numbers) != torch.Size(shape).numel() * dtype.itemsize or checksum != _checksum(key, numbers):
            return None
        return torch.frombuffer(numbers, dtype=dtype).view(shape)

    def put(self, key: bytes, tensor: Tensor) -> None:
        """Keep a tensor, if there is room or can be made; a folder that cannot be written to keeps none."""
        size = tensor.nbytes + _CHECKSUM
        if self._full or not self._has_room(size):
            return
        numbers = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        try:
            self._write(self._path(key), _checksum(key, numbers) + numbers)
        except OSError:
            self._full = True
            return
        self._bytes = self.size + size

    def _write(self, path: Path, content: bytes) -> None:
        """Not synced: after a power cut the checksum tells."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _has_room(self, size: int) -> bool:
        if self.size + size > self.budget:
            self._make_room(size)
        self._full = self.size + size > self.budget
        return not self._full

    def _make_room(self, size: int) -> None:
        """Look at what is really there, and remove what was not used longest."""
        files = sorted(self._files())
        total, wanted = sum(one for _, one, _ in files), self.budget * _LEFT - size
        for used, one, path in files:
            forgotten = path.suffix == ".tmp" and used < time.time() - _FORGOTTEN
            if not forgotten and (total <= wanted or used >= self._began):
                break
            with suppress(OSError):
                path.unlink()
            total -= one
        self._bytes = total

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was last used, its bytes, and where it is."""
        for path in self.folder.glob("*/*"):
            with suppress(OSError):  # another process has removed it
                found = path.stat()
                yield found.st_mtime, found.st_size, path

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.folder / name[:2] / name[2:]


def _checksum(key: bytes, numbers: bytes | bytearray) -> bytes:
    digest = blake2b(key, digest_size=_CHECKSUM)
    digest.update(numbers)
    return digest.digest()
