"""A published artifact: which one it is, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

from foreword.artifacts.files import Files
from foreword.artifacts.format import Artifact, read_artifact
from foreword.artifacts.manifest import MOST_MANIFEST_BYTES, Manifest, parse_manifest
from foreword.artifacts.opening import open_plain
from foreword.errors import ArtifactError, RegistryError
from foreword.registry.layout import MANIFEST, TENSORS, blob, version_file
from foreword.registry.sealed import read_sealed


@dataclass(frozen=True)
class Version:
    """A version of a task; nothing about it ever changes.

    Attributes:
        name: of the task.
        number: 1, 2, ...; never given to another version of the task.
        digest: sha256 of its manifest, in hex. The manifest lists those of its files, so that versions of one digest
            are the same to the bit, wherever they were published.
        created: when the artifact was made.
        published: when it became this version.
        manifest: what the artifact says of itself; its files are those the registry keeps.
    """

    name: str
    number: int
    digest: str
    created: str
    published: str
    manifest: Manifest = field(compare=False, repr=False)

    @property
    def reference(self) -> str:
        """What names this version, and no other, in its registry."""
        return f"{self.name}:{self.number}"


def read_version(root: Path, name: str, number: int, *, kind: str) -> Version:
    """A version and its manifest, checked.

    Args:
        root: of the registry.
        name, number: of the version, as found in the index.
        kind: `LIVE` or `REMOVED`.

    Raises:
        RegistryError: naming the file that is missing or damaged.
    """
    place = version_file(name, number, kind)
    said = read_sealed(root, *place)
    match said:
        case {"name": str(its_name), "number": int(its_number), "digest": str(digest), "published": str(published)}:
            if (its_name, its_number) == (name, number):
                manifest = read_manifest(root, digest)
                return Version(name, number, digest, manifest.created, published, manifest)
    raise RegistryError(f"{root.joinpath(*place)}: speaks of another version than its place does")


def read_manifest(root: Path, digest: str) -> Manifest:
    """The manifest that has a digest.

    Raises:
        RegistryError: it is missing or damaged.
    """
    place = blob(digest, MANIFEST)
    where = root.joinpath(*place)
    try:
        with open_plain(root, *place) as file:
            content = file.read(MOST_MANIFEST_BYTES + 1)
        if sha256(content).hexdigest() != digest:
            raise RegistryError(f"{where}: its sha256 is not its name: it was altered")
        return parse_manifest(content, where)
    except OSError as error:
        raise RegistryError(f"{where}: cannot be read ({error.strerror})") from error
    except ArtifactError as error:
        raise RegistryError(str(error)) from error


def files_of(root: Path, manifest: Manifest) -> Files:
    """Where a registry keeps the files of a manifest: each under its hash."""
    return Files(root, manifest.files, partial(_place, manifest))


def needed_by(version: Version) -> set[str]:
    """Names of the files that a version is made of, which are named by their content."""
    return {f"{version.digest}{MANIFEST}", *(f"{e.sha256}{TENSORS}" for e in version.manifest.files.values())}


def open_version(root: Path, version: Version) -> Artifact:
    """The artifact of a version, through the checks that one in a folder has.

    Raises:
        ArtifactError: naming the file or field that is wrong.
    """
    path = root.joinpath(*version_file(version.name, version.number))
    where = root.joinpath(*blob(version.digest, MANIFEST))
    return read_artifact(path, version.manifest, where, files_of(root, version.manifest))


def _place(manifest: Manifest, name: str) -> tuple[str, ...]:
    return blob(manifest.files[name].sha256, TENSORS)
