"""Where things lie in a registry.

ROOT/
  registry.json                       what this folder is, and the version of its layout
  lock                                held while something is written; readers do not look at it
  blobs/sha256/ab/<sha256>.safetensors, .json    files of artifacts and their manifests: read-only, named by content
  tasks/NAME/versions/<n>.json        which manifest version n is; <n>.removed once it is removed
  tasks/NAME/aliases.json             alias -> number
"""

from __future__ import annotations

LAYOUT_VERSION = 1
MARKER, LOCK, ALIASES = "registry.json", "lock", "aliases.json"
TASKS, VERSIONS = "tasks", "versions"
LIVE, REMOVED = ".json", ".removed"
TENSORS, MANIFEST = ".safetensors", ".json"


def blob(digest: str, kind: str) -> tuple[str, ...]:
    """The way from the root to a file that is named by its content.

    Args:
        digest: 64 hexadecimal digits.
        kind: `TENSORS` or `MANIFEST`.
    """
    return ("blobs", "sha256", digest[:2], f"{digest}{kind}")


def versions_of(name: str) -> tuple[str, ...]:
    """The way to the folder with the versions of a task."""
    return (TASKS, name, VERSIONS)


def version_file(name: str, number: int, kind: str = LIVE) -> tuple[str, ...]:
    """The way to the file of a version."""
    return (*versions_of(name), f"{number}{kind}")
