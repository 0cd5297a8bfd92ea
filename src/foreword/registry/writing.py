"""Changes of a registry, each of which is there whole or not at all. One writer at a time; readers never wait."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from filelock import FileLock, Timeout

from foreword.artifacts.files import Files, copy_file
from foreword.artifacts.folders import UNFINISHED, make_folders, whole_file, write_whole
from foreword.artifacts.format import read_artifact
from foreword.artifacts.manifest import Manifest, manifest_bytes
from foreword.errors import OutputError, RegistryError
from foreword.registry.layout import ALIASES, LAYOUT_VERSION, LOCK, MANIFEST, MARKER, TASKS, blob, version_file
from foreword.registry.sealed import read_sealed, seal
from foreword.registry.version import files_of, read_manifest

_PATIENCE = 60.0
"""Seconds to wait for another writer."""

_READ_ONLY = 0o444
_FORMAT = "foreword-registry"


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Be the only one who writes. The system lets go of the lock when its process ends.

    Raises:
        RegistryError: another process has been writing for a minute.
        OutputError: the registry cannot be written.
    """
    lock = FileLock(root / LOCK)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise RegistryError(f"{root}: another process has been writing to it for {_PATIENCE:.0f} seconds") from error
    except OSError as error:
        raise OutputError(f"{root}: cannot be written ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def make_registry(root: Path) -> None:
    """Make a folder that is not there, or is empty, a registry.

    Raises:
        RegistryError: something else is in it.
        OutputError: it cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if (root / MARKER).exists():
            return
        strangers = [path for path in root.iterdir() if not _begun(path)]
    except OSError as error:
        raise OutputError(f"{root}: cannot be made a registry ({error.strerror})") from error
    if strangers and not (root / MARKER).exists():
        raise RegistryError(f"{root}: is neither a registry nor empty. Choose another folder")
    with writing(root):
        if not (root / MARKER).exists():
            make_folders(root, TASKS)
            write_whole(root / MARKER, seal({"format": _FORMAT, "layout": LAYOUT_VERSION}))


def _begun(path: Path) -> bool:
    """Whether something is of a registry that was not made to its end."""
    return path.name == LOCK or path.name.endswith(UNFINISHED) or (path.name == TASKS and not any(path.iterdir()))


def check_registry(root: Path) -> None:
    """Refuse a folder that is no registry, or one of another layout.

    Raises:
        RegistryError: saying which.
    """
    if not (root / MARKER).is_file():
        raise RegistryError(f"{root}: is no registry. `foreword registry add` makes one")
    said = read_sealed(root, MARKER)
    if said != {"format": _FORMAT, "layout": LAYOUT_VERSION}:
        raise RegistryError(f"{root / MARKER}: layout {said.get('layout')!r}; this Foreword reads {LAYOUT_VERSION}")


def write_blobs(root: Path, source: Files, manifest: Manifest) -> str:
    """Keep the files of an artifact and its manifest, and read them back.

    What is there already is checked, and replaced where it is damaged.

    Returns:
        The manifest's digest.

    Raises:
        ArtifactError: the artifact was changed meanwhile.
        OutputError: the registry cannot be written.
    """
    kept = files_of(root, manifest)
    for name in manifest.files:
        copy_file(source, kept, name, mode=_READ_ONLY)
    content = manifest_bytes(manifest)
    digest = sha256(content).hexdigest()
    place = blob(digest, MANIFEST)
    try:
        read_manifest(root, digest)
    except RegistryError:
        make_folders(root, *place[:-1])
        with whole_file(root.joinpath(*place), mode=_READ_ONLY) as file:
            file.write(content)
    read_artifact(root.joinpath(*place), read_manifest(root, digest), root.joinpath(*place), kept)
    return digest


def write_version(root: Path, name: str, number: int, digest: str) -> None:
    """Let a digest be a version of a task."""
    place = version_file(name, number)
    make_folders(root, *place[:-1])
    published = datetime.now(UTC).isoformat(timespec="seconds")
    content = {"name": name, "number": number, "digest": digest, "published": published}
    write_whole(root.joinpath(*place), seal(content))


def write_aliases(root: Path, name: str, aliases: Mapping[str, int]) -> None:
    """Let words stand for versions of a task."""
    write_whole(root / TASKS / name / ALIASES, seal({"name": name, "aliases": dict(aliases)}))
