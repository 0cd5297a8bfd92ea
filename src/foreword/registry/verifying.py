"""Everything in a registry read through."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

from foreword.artifacts.opening import below, open_plain
from foreword.errors import ArtifactError, RegistryError
from foreword.registry.index import Listing, look
from foreword.registry.layout import LIVE, belongs, is_unfinished, parse_blob
from foreword.registry.version import Version, needed_by, open_version, read_version


class Fault(NamedTuple):
    """Something that is not as it was written.

    Attributes:
        subject: the version or task that suffers, or the file where it is neither.
        problem: which file, and what is wrong with it.
    """

    subject: str
    problem: str


def verify(root: Path) -> list[Fault]:
    """Read every version, alias and file.

    Raises:
        RegistryError: the folder itself cannot be read.
    """
    index = look(root, {})
    faults: list[Fault] = []
    known: dict[str, str | None] = {}  # digest -> what is wrong with it
    needed: set[str] = set()
    for name, listing in index.items():
        faults += [Fault(name, problem) for problem in _listing_problems(name, listing)]
        for number in listing.live:
            try:
                version = read_version(root, name, number, kind=LIVE)
            except RegistryError as error:
                faults.append(Fault(f"{name}:{number}", str(error)))
                continue
            if version.digest not in known:
                known[version.digest] = _problem(root, version)
            if problem := known[version.digest]:
                faults.append(Fault(version.reference, problem))
            needed |= needed_by(version)
    faults += [Fault(path, problem) for path, problem in _other_problems(root, needed)]
    return faults


def _problem(root: Path, version: Version) -> str | None:
    try:
        open_version(root, version)
    except ArtifactError as error:
        return str(error)
    return None


def _listing_problems(name: str, listing: Listing) -> Iterator[str]:
    if isinstance(listing.aliases, RegistryError):
        yield str(listing.aliases)
    else:
        yield from (
            f"'{name}@{alias}' stands for version {number}, which is not there"
            for alias, number in listing.aliases.items()
            if number not in listing.live
        )
    numbers = {*listing.live, *listing.removed}
    yield from (
        f"'{name}:{n}' is missing, and was not removed" for n in range(1, max(numbers, default=0)) if n not in numbers
    )


def _other_problems(root: Path, needed: set[str]) -> Iterator[tuple[str, str]]:
    """Files of no version, and what does not belong into the folder."""
    for parts, plain in below(root):
        path = root.joinpath(*parts)
        if not plain or not (belongs(parts) or is_unfinished(parts)):
            yield str(path), f"{path}: is no file of a registry"
        elif (digest := parse_blob(parts)) and path.name not in needed:
            with open_plain(root, *parts) as file:
                if file_digest(file, "sha256").hexdigest() != digest:
                    yield str(path), f"{path}: its sha256 is not its name: it was altered"
