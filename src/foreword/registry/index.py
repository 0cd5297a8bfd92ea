"""What is in a registry, found by looking at the names of its files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foreword.artifacts.opening import entries
from foreword.errors import ArtifactError, RegistryError
from foreword.registry.layout import ALIASES, LIVE, REMOVED, TASKS, VERSIONS, parse_version, versions_of
from foreword.registry.references import LATEST, Reference, is_alias, is_name
from foreword.registry.sealed import read_sealed

_LOOKS = 3
"""How often a task is looked at while someone removes versions of it."""

_SETTLING = 2 * 10**9
"""Nanoseconds after which two changes of a file have different times, on any file system."""

_HINT = f"Say anew what '{LATEST}' stands for, and then the other aliases"


@dataclass(frozen=True)
class Listing:
    """The versions of one task.

    Attributes:
        live: numbers of its versions, ascending.
        removed: numbers of those that are gone.
        aliases: alias -> number, or the damage of the file that says so.
        stamp: of the file of aliases and the folder of versions; it changes with them.
        settled: whether both were last written so long before they were looked at that a change since must show in
            their stamp.
    """

    live: tuple[int, ...]
    removed: tuple[int, ...]
    aliases: Mapping[str, int] | RegistryError
    stamp: tuple[int, ...]
    settled: bool

    def same(self, other: Listing) -> bool:
        """Whether both tell of the same versions and aliases."""
        mine, theirs = (
            (one.live, one.removed, str(one.aliases) if isinstance(one.aliases, RegistryError) else one.aliases)
            for one in (self, other)
        )
        return mine == theirs


Index = Mapping[str, Listing]
"""Name -> versions, for every folder of a task."""


def look(root: Path, before: Index) -> dict[str, Listing]:
    """Look at all tasks.

    Args:
        root: of the registry.
        before: what was found the last time; tasks that did not change since are not read again.

    Raises:
        RegistryError: the registry cannot be read.
    """
    try:
        with entries(root, TASKS) as found:
            names = sorted(e.name for e in found if is_name(e.name) and e.is_dir(follow_symlinks=False))
    except ArtifactError as error:
        raise RegistryError(str(error)) from error
    return {name: list_task(root, name, before.get(name)) for name in names}


def list_task(root: Path, name: str, before: Listing | None = None) -> Listing:
    """Look at one task.

    Aliases are read first: whoever publishes writes the version before the alias, so what an alias stands for is there.
    Whoever removes moves the alias first; then it is looked at again.
    """
    for _ in range(_LOOKS):
        now, stamp = time.time_ns(), _stamp(root, name)
        if before is not None and before.settled and before.stamp == stamp:
            return before
        aliases = read_aliases(root, name)
        numbers = dict(_numbers(root, name))
        live, removed = (tuple(sorted(n for n, k in numbers.items() if k == kind)) for kind in (LIVE, REMOVED))
        if isinstance(aliases, RegistryError) or set(aliases.values()) <= set(live):
            break
    if isinstance(aliases, dict) and not aliases and (removed or len(live) > 1) and not _is_there(root, name):
        aliases = RegistryError(f"{root.joinpath(TASKS, name, ALIASES)}: is missing. {_HINT}")
    elif isinstance(aliases, dict) and live and LATEST not in aliases:
        aliases = {**aliases, LATEST: live[-1]}  # its publisher was killed before it could say so
    return Listing(live, removed, aliases, stamp, settled=max(stamp[0], stamp[3]) < now - _SETTLING)


def find(listing: Listing, wanted: Reference, digests: Mapping[int, str]) -> int | None:
    """The number a reference stands for; None where there is none.

    Args:
        listing: of its task.
        wanted: the reference.
        digests: number -> digest of the versions; looked at only where the reference has one.

    Raises:
        RegistryError: the file of aliases is needed and damaged.
    """
    if wanted.alias is not None:
        number = sound_aliases(listing).get(wanted.alias)
        return number if number in listing.live else None
    if wanted.number is not None:
        return wanted.number if wanted.number in listing.live else None
    return max((n for n, digest in digests.items() if digest.startswith(wanted.digest or "")), default=None)


def sound_aliases(listing: Listing) -> Mapping[str, int]:
    """What the aliases of a task stand for.

    Raises:
        RegistryError: their file is damaged.
    """
    if isinstance(listing.aliases, RegistryError):
        raise listing.aliases
    return listing.aliases


def read_aliases(root: Path, name: str) -> dict[str, int] | RegistryError:
    """The aliases of a task, or the damage of their file."""
    place = (TASKS, name, ALIASES)
    where = root.joinpath(*place)
    if not _is_there(root, name):
        return {}
    try:
        said = read_sealed(root, *place)
    except RegistryError as error:
        return RegistryError(f"{error}. {_HINT}")
    match said:
        case {"name": str(its_name), "aliases": dict(aliases)} if its_name == name:
            if all(is_alias(alias) and type(number) is int for alias, number in aliases.items()):
                return aliases
    return RegistryError(f"{where}: is not the file of aliases of '{name}'. {_HINT}")


def _is_there(root: Path, name: str) -> bool:
    return os.path.lexists(root.joinpath(TASKS, name, ALIASES))


def _stamp(root: Path, name: str) -> tuple[int, ...]:
    """When the file of aliases and the folder of versions were last written, and which they are; zeros for none."""
    found: list[int] = []
    for place in (ALIASES, VERSIONS):
        try:
            state = os.lstat(f"{root}/{TASKS}/{name}/{place}")
            found += state.st_mtime_ns, state.st_ino, state.st_size
        except OSError:
            found += 0, 0, 0
    return tuple(found)


def _numbers(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Numbers of versions and the kind of their file; a removal that just happened hides the live one."""
    try:
        with entries(root, *versions_of(name)) as found:
            files = [parse_version(e.name) for e in found if e.is_file(follow_symlinks=False)]
    except ArtifactError:
        return  # killed before its first version was there
    yield from sorted(f for f in files if f is not None)
