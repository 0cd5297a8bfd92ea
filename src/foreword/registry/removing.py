"""Taking versions back, and deleting the files that no version needs any more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from foreword.artifacts.folders import rename_file
from foreword.artifacts.opening import below
from foreword.errors import OutputError, RegistryError
from foreword.registry.index import Index, Listing, look, sound_aliases
from foreword.registry.layout import LIVE, REMOVED, is_unfinished, parse_blob, version_file
from foreword.registry.references import LATEST
from foreword.registry.version import needed_by, read_version
from foreword.registry.writing import write_aliases

GRACE = 24 * 3600.0
"""Seconds that a server, say, has to open what it found before it was removed."""


class Collected(NamedTuple):
    """What was deleted.

    Attributes:
        files: how many.
        bytes: of all of them.
    """

    files: int
    bytes: int


def remove_versions(root: Path, name: str, listing: Listing, numbers: Sequence[int], *, every: bool) -> None:
    """Take versions of a task back: first their aliases, then they themselves. The lock is held.

    Args:
        root: of the registry.
        name: of the task.
        listing: its versions.
        numbers: of those to remove.
        every: whether the aliases go as well, whatever they stand for.

    Raises:
        RegistryError: an alias other than `latest` stands for one of them.
    """
    aliases = {} if every else dict(sound_aliases(listing))
    for alias, number in sorted(aliases.items()):
        if number in numbers and alias != LATEST:
            raise RegistryError(
                f"'{name}@{alias}' stands for {name}:{number}. Let it stand for another version, or remove it, first"
            )
    left = [number for number in listing.live if number not in numbers]
    if aliases.get(LATEST) not in left:
        aliases = {**aliases, LATEST: max(left)} if left else {}
    write_aliases(root, name, aliases)
    for number in numbers:
        rename_file(root.joinpath(*version_file(name, number)), f"{number}{REMOVED}")


def collect(root: Path, grace: float) -> Collected:
    """Delete what nobody refers to. The lock is held, so that no writer is in the middle of anything.

    Args:
        root: of the registry.
        grace: seconds; see `Registry.collect`.

    Raises:
        RegistryError: a version is damaged.
        OutputError: a file cannot be deleted.
    """
    before = time.time() - grace
    needed = set(_needed(root, look(root, {}), before))
    written = [(root.joinpath(*parts), parts) for parts, plain in below(root) if plain]
    old = [path for path, parts in written if parse_blob(parts) and path.name not in needed and _changed(path) < before]
    left = [path for path, parts in written if is_unfinished(parts)]
    files = size = 0
    for path in old + left:
        try:
            found = path.stat(follow_symlinks=False).st_size
            path.unlink()
        except OSError as error:
            raise OutputError(f"{path}: cannot be deleted ({error.strerror})") from error
        files, size = files + 1, size + found
    return Collected(files, size)


def _needed(root: Path, index: Index, before: float) -> Iterator[str]:
    """Names of the blobs of every version, also of those that were removed since."""
    for name, listing in index.items():
        kinds = [*((n, LIVE) for n in listing.live), *((n, REMOVED) for n in listing.removed)]
        for number, kind in kinds:
            if kind == REMOVED and _changed(root.joinpath(*version_file(name, number, kind))) < before:
                continue
            try:
                version = read_version(root, name, number, kind=kind)
            except RegistryError as error:
                if kind == REMOVED:
                    continue
                raise RegistryError(
                    f"{error}. It is not known which files {name}:{number} needs, so none was deleted. Mend it, or "
                    "remove it first"
                ) from error
            yield from needed_by(version)


def _changed(path: Path) -> float:
    return path.stat(follow_symlinks=False).st_mtime
