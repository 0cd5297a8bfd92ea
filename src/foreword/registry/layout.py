"""Where things lie in a registry.

ROOT/
  registry.json                       what this folder is, and the version of its layout
  lock                                held while something is written; readers do not look at it
  blobs/sha256/ab/<sha256>.safetensors, .json    files of artifacts and their manifests: read-only, named by content
  tasks/NAME/versions/<n>.json        which manifest version n is; <n>.removed once it is removed
  tasks/NAME/aliases.json             alias -> number
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from foreword.artifacts.folders import UNFINISHED
from foreword.registry.references import is_name

LAYOUT_VERSION = 1
MARKER, LOCK, ALIASES = "registry.json", "lock", "aliases.json"
TASKS, VERSIONS = "tasks", "versions"
LIVE, REMOVED = ".json", ".removed"
TENSORS, MANIFEST = ".safetensors", ".json"
BLOBS = ("blobs", "sha256")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(rf"([1-9][0-9]{{0,8}})({re.escape(LIVE)}|{re.escape(REMOVED)})")


def blob(digest: str, kind: str) -> tuple[str, ...]:
    """The way from the root to a file that is named by its content.

    Args:
        digest: 64 hexadecimal digits.
        kind: `TENSORS` or `MANIFEST`.
    """
    return (*BLOBS, digest[:2], f"{digest}{kind}")


def versions_of(name: str) -> tuple[str, ...]:
    """The way to the folder with the versions of a task."""
    return (TASKS, name, VERSIONS)


def version_file(name: str, number: int, kind: str = LIVE) -> tuple[str, ...]:
    """The way to the file of a version."""
    return (*versions_of(name), f"{number}{kind}")


def parse_blob(parts: Sequence[str]) -> str | None:
    """The digest that a file should have; None where it lies elsewhere than files that are named by content."""
    digest = parts[-1].partition(".")[0]
    found = _DIGEST.fullmatch(digest) and tuple(parts) in (blob(digest, TENSORS), blob(digest, MANIFEST))
    return digest if found else None


def parse_version(file: str) -> tuple[int, str] | None:
    """Number and kind of a version, by the name of its file."""
    found = _VERSION.fullmatch(file)
    return None if found is None else (int(found[1]), found[2])


def is_unfinished(parts: Sequence[str]) -> bool:
    """Whether a file is one that was being written when its writer was killed, or is being written."""
    return parts[-1].startswith(".") and parts[-1].endswith(UNFINISHED)


def belongs(parts: Sequence[str]) -> bool:
    """Whether a registry may have a file in such a place."""
    match tuple(parts):
        case (name,):
            return name in (MARKER, LOCK)
        case (tasks, name, file) if tasks == TASKS:
            return is_name(name) and file == ALIASES
        case (tasks, name, versions, file) if (tasks, versions) == (TASKS, VERSIONS):
            return is_name(name) and parse_version(file) is not None
    return parse_blob(parts) is not None
