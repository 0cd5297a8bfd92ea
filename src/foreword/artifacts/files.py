"""The files of an artifact: which there may be, how large, and that each is the one its manifest names.

prompt.safetensors     what is served: folded prompt, what is attached to the layers, and head
unfolded.safetensors   the prompt's parameters as trained, to go on training from
backbone.safetensors   only where weights of the backbone itself were tuned: those
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path

from foreword.artifacts.folders import make_folders, whole_file
from foreword.artifacts.header import check_header
from foreword.artifacts.manifest import FileEntry, Manifest
from foreword.artifacts.opening import open_plain
from foreword.errors import ArtifactError

SERVED, UNFOLDED, BACKBONE = "prompt.safetensors", "unfolded.safetensors", "backbone.safetensors"
MOST_BYTES = {SERVED: 512 << 20, UNFOLDED: 4 << 30, BACKBONE: 64 << 30}
"""What a file may have. Prompts take megabytes; those of the largest language models, and LoRA, some hundred. What is
trained and then folded away, and a tuned backbone, take more."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Files:
    """Where the files of an artifact lie: side by side in its folder, or in a registry, each under its hash.

    Attributes:
        root: the folder below which all of them are.
        entries: name -> what the manifest says of the file.
        place: the way from ``root`` to a file, given its name.
    """

    root: Path
    entries: Mapping[str, FileEntry]
    place: Callable[[str], tuple[str, ...]]

    def where(self, name: str) -> Path:
        """Path of a file, for messages."""
        return self.root.joinpath(*self.place(name))

    def check(self, name: str) -> None:
        """Read a file through: its size, its hash, its header.

        Raises:
            ArtifactError: naming the file and what is wrong with it.
        """
        with self._checked(name):
            pass

    def read(self, name: str) -> bytes:
        """The content of a file that was checked.

        Raises:
            ArtifactError: as for `check`.
        """
        with self._checked(name) as file:
            return file.read()

    @contextmanager
    def _checked(self, name: str) -> Iterator[BufferedReader]:
        where, entry = self.where(name), self.entries[name]
        with self.open(name) as file:
            try:
                if file_digest(file, "sha256").hexdigest() != entry.sha256:
                    raise ArtifactError(f"{where}: its sha256 is not the one in its manifest: it was altered")
                file.seek(0)
                check_header(file, entry.bytes, where)
                file.seek(0)
                yield file
            except OSError as error:
                raise ArtifactError(f"{where}: cannot be read ({error.strerror})") from error

    def open(self, name: str) -> BufferedReader:
        """A file of the size that the manifest says, not yet read.

        Raises:
            ArtifactError: it is missing, a link, too large, or of another size.
        """
        where, entry, most = self.where(name), self.entries[name], MOST_BYTES[name]
        file = open_plain(self.root, *self.place(name))
        size = os.fstat(file.fileno()).st_size
        if size == entry.bytes <= most:
            return file
        file.close()
        if size != entry.bytes:
            raise ArtifactError(f"{where}: has {size} bytes, its manifest says {entry.bytes}: truncated or replaced")
        raise ArtifactError(f"{where}: has {size} bytes, and such a file of an artifact at most {most}")


def side_by_side(folder: Path, manifest: Manifest) -> Files:
    """The files of an artifact that has a folder of its own."""
    return Files(folder, manifest.files, lambda name: (name,))


def copy_file(source: Files, target: Files, name: str, *, mode: int | None = None) -> None:
    """Copy a file that both list, whole or not at all; what is there and is sound already stays.

    Args:
        source, target: from where to where.
        name: of the file.
        mode: permissions of the copy; those of any new file if None.

    Raises:
        ArtifactError: the file is not the one that its manifest lists.
        OutputError: the place cannot be written.
    """
    with suppress(ArtifactError):
        target.check(name)
        return
    make_folders(target.root, *target.place(name)[:-1])
    found = sha256()
    with source.open(name) as file, whole_file(target.where(name), mode=mode) as copy:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
            copy.write(chunk)
        if found.hexdigest() != source.entries[name].sha256:
            raise ArtifactError(f"{source.where(name)}: its sha256 is not the one in its manifest: it was altered")


def file_entry(path: Path) -> FileEntry:
    """What a manifest says of a file just written."""
    with path.open("rb") as file:
        return FileEntry(sha256=file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)
