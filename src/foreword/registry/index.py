"""What is in a registry, found by looking at the names of its files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from foreword.artifacts.opening import entries
from foreword.errors import ArtifactError, RegistryError
from foreword.registry.layout import ALIASES, LIVE, REMOVED, TASKS, parse_version, versions_of
from foreword.registry.references import LATEST, Reference, is_alias, is_name
from foreword.registry.sealed import read_sealed

_LOOKS = 3
"""How often a task is looked at while someone removes versions of it."""

_HINT = f"Say anew what '{LATEST}' stands for, and then the other aliases"


@dataclass(frozen=True)
class Listing:
    """The versions of one task.

    Attributes:
        live: numbers of its versions, ascending.
        removed: numbers of those that are gone.
        aliases: alias -> number, or the damage of the file that says so.
        stamp: of that file.
    """

    live: tuple[int, ...]
    removed: tuple[int, ...]
    aliases: Mapping[str, int] | RegistryError
    stamp: tuple[int, ...] | None

    def same(self, other: Listing) -> bool:
        """Whether both tell of the same versions and aliases."""
        return (self.live, self.removed, self.stamp) == (other.live, other.removed, other.stamp)


Index = Mapping[str, Listing]
"""Name -> versions, for every folder of a task."""


def look(root: Path, before: Index) -> dict[str, Listing]:
    """Look at all tasks.

    Args:
        root: of the registry.
        before: what was found the last time; aliases that did not change are not read again.

    Raises:
        RegistryError: the registry cannot be read.
    """
    try:
        with entries(root, TASKS) as found:
            names = sorted(e.name for e in found if is_name(e.name) and e.is_dir(follow_symlinks=False))
    except ArtifactError:
        if not (root / TASKS).exists():
            return {}  # nothing was published yet
        raise
    return {name: list_task(root, name, before.get(name)) for name in names}


def list_task(root: Path, name: str, before: Listing | None = None) -> Listing:
    """Look at one task.

    Aliases are read first: whoever publishes writes the version before the alias, so what an alias stands for is there.
    Whoever removes moves the alias first; then it is looked at again.
    """
    for _ in range(_LOOKS):
        stamp = _stamp(root, name)
        aliases = before.aliases if before is not None and before.stamp == stamp else read_aliases(root, name)
        numbers = dict(_numbers(root, name))
        live, removed = (tuple(sorted(n for n, k in numbers.items() if k == kind)) for kind in (LIVE, REMOVED))
        if isinstance(aliases, RegistryError) or set(aliases.values()) <= set(live):
            break
        before = None
    if stamp is None and (removed or len(live) > 1):
        aliases = RegistryError(f"{root.joinpath(TASKS, name, ALIASES)}: is missing. {_HINT}")
    elif not isinstance(aliases, RegistryError) and live and LATEST not in aliases:
        aliases = {**aliases, LATEST: live[-1]}  # its publisher was killed before it could say so
    return Listing(live, removed, aliases, stamp)


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
    if not os.path.lexists(where):
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


def _stamp(root: Path, name: str) -> tuple[int, ...] | None:
    try:
        found = root.joinpath(TASKS, name, ALIASES).stat(follow_symlinks=False)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _numbers(root: Path, name: str) -> Iterator[tuple[int, str]]:
    """Numbers of versions and the kind of their file; a removal that just happened hides the live one."""
    try:
        with entries(root, *versions_of(name)) as found:
            files = [parse_version(e.name) for e in found if e.is_file(follow_symlinks=False)]
    except ArtifactError:
        return  # killed before its first version was there
    yield from sorted(f for f in files if f is not None)
