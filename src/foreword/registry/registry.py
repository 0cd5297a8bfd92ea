"""A folder of published artifacts, with versions and aliases, for any number of readers and writers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foreword.artifacts.files import UNFOLDED
from foreword.artifacts.format import Artifact, load_artifact
from foreword.errors import RegistryError, UnknownReference
from foreword.registry.hub import pulled, push
from foreword.registry.index import Index, Listing, find, list_task, look, sound_aliases
from foreword.registry.layout import LIVE, version_file
from foreword.registry.references import LATEST, Reference, check_alias, check_name, parse_reference
from foreword.registry.removing import GRACE, Collected, collect, remove_versions
from foreword.registry.verifying import Fault, verify
from foreword.registry.version import Version, open_version, read_version
from foreword.registry.writing import check_registry, make_registry, write_aliases, write_blobs, write_version, writing


class Registry:
    """Published artifacts, looked up by reference.

    What is seen is what was there at the last look: when this was made, when it last wrote, when `changed` was last
    called. Versions never change, so they stay good however old the look. Any thread may call any method.

    Args:
        root: its folder (`foreword.registry.layout`).
        create: make it where there is none.

    Raises:
        RegistryError: the folder is no registry, or one of another layout.
    """

    def __init__(self, root: str | Path, *, create: bool = False) -> None:
        self.root = Path(root)
        if create:
            make_registry(self.root)
        check_registry(self.root)
        self._index: Index = look(self.root, {})
        self._versions: dict[tuple[str, int], Version] = {}

    def changed(self) -> bool:
        """Look again: whether anything was published, removed, or called otherwise since the last look."""
        before = self._index
        now = look(self.root, before)
        self._index = now
        if before.keys() == now.keys() and all(now[name].same(before[name]) for name in now):
            return False
        self._versions = {key: v for key, v in self._versions.items() if key[0] in now and key[1] in now[key[0]].live}
        return True

    def names(self) -> list[str]:
        """Tasks that have a version, sorted."""
        return [name for name, listing in self._index.items() if listing.live]

    def numbers(self, name: str) -> list[int]:
        """Numbers of all versions of a task, ascending, also of damaged ones.

        Raises:
            UnknownReference: there is no such task.
        """
        return list(self._listing(name).live)

    def versions(self, name: str) -> list[Version]:
        """All versions of a task, the oldest first.

        Raises:
            UnknownReference: there is no such task.
            RegistryError: one of them is damaged.
        """
        return [self._version(name, number) for number in self.numbers(name)]

    def aliases(self, name: str) -> dict[str, int]:
        """Alias -> number of the version it stands for.

        Raises:
            UnknownReference: there is no such task.
            RegistryError: the file with them is damaged.
        """
        return dict(sorted(sound_aliases(self._listing(name)).items()))

    def resolve(self, reference: str) -> Version:
        """The version that a reference stands for.

        Args:
            reference: ``name`` (as ``name@latest``), ``name@alias``, ``name:3``, or ``name@sha256:`` with the first 12
                or more digits of a digest.

        Raises:
            UnknownReference: there is none.
            RegistryError: it is damaged.
        """
        wanted = parse_reference(reference)
        listing = self._index.get(wanted.name)
        number = None if listing is None else find(listing, wanted, self._digests(wanted, listing))
        if number is None:
            raise UnknownReference(reference)
        try:
            return self._version(wanted.name, number)
        except RegistryError:
            if self.root.joinpath(*version_file(wanted.name, number)).exists():
                raise
            raise UnknownReference(reference) from None  # removed since the last look

    def open(self, version: Version) -> Artifact:
        """The artifact of a version, checked as `load_artifact` checks one in a folder.

        Raises:
            ArtifactError: naming the file or field that is wrong.
        """
        return open_version(self.root, version)

    def add(self, artifact: Path, name: str, *, aliases: Sequence[str] = (), unfolded: bool = False) -> Version:
        """Publish an artifact as the next version of a task, and let `latest` stand for it.

        Args:
            artifact: its folder, or that of the run that made it.
            name: of the task; new, or one that has versions.
            aliases: what else shall stand for it.
            unfolded: keep the numbers that serving does not need, to train on from.

        Raises:
            RegistryError: the name or an alias is none, or the task's aliases are damaged.
            ArtifactError: the artifact is damaged.
            OutputError: the registry cannot be written.
        """
        found, words = publishable(artifact, name, aliases)
        files = {file: entry for file, entry in found.manifest.files.items() if unfolded or file != UNFOLDED}
        with writing(self.root):
            listing = list_task(self.root, name)
            standing = sound_aliases(listing)
            number = max((*listing.live, *listing.removed), default=0) + 1
            digest = write_blobs(self.root, found.files, found.manifest.model_copy(update={"files": files}))
            write_version(self.root, name, number, digest)
            write_aliases(self.root, name, {**standing, **dict.fromkeys(words, number)})
        self.changed()
        return self._version(name, number)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Let an alias stand for a version from now on.

        Where the file of aliases is damaged, `latest` begins a new one.

        Raises:
            RegistryError: the alias is no word for one.
            UnknownReference: there is no such version.
        """
        check_alias(alias)
        self._listing(name)
        with writing(self.root):
            listing = list_task(self.root, name)
            if number not in listing.live:
                raise UnknownReference(f"{name}:{number}")
            damaged = isinstance(listing.aliases, RegistryError) and alias == LATEST
            write_aliases(self.root, name, {**({} if damaged else sound_aliases(listing)), alias: number})
        self.changed()

    def remove_alias(self, name: str, alias: str) -> None:
        """Let an alias stand for nothing; the version stays.

        Raises:
            RegistryError: it is `latest`, which every task has.
            UnknownReference: there is no such alias.
        """
        if alias == LATEST:
            raise RegistryError(
                f"'{LATEST}' is what '{name}' alone stands for. Let it stand for another version instead"
            )
        self._listing(name)
        with writing(self.root):
            standing = dict(sound_aliases(list_task(self.root, name)))
            if standing.pop(alias, None) is None:
                raise UnknownReference(f"{name}@{alias}")
            write_aliases(self.root, name, standing)
        self.changed()

    def remove(self, reference: str, *, every: bool = False) -> list[str]:
        """Take a version back. Its number is never used again, and its files stay until `collect`.

        Where it was `latest`, the one before it is from now on.

        Args:
            reference: ``name:3`` or ``name@sha256:...``.
            every: remove all versions of the task that ``reference`` is the name of.

        Returns:
            References of what was removed.

        Raises:
            UnknownReference: there is no such version.
            RegistryError: an alias stands for it, or the reference may stand for another version at any time.
        """
        wanted = parse_reference(reference)
        self._listing(wanted.name)
        with writing(self.root):
            listing = list_task(self.root, wanted.name)
            if every:
                numbers = listing.live if reference == wanted.name else ()
            else:
                if wanted.alias is not None:
                    raise RegistryError(
                        f"{reference!r}: say which version, as '{wanted.name}:3', or remove all of them (--every)"
                    )
                number = find(listing, wanted, self._digests(wanted, listing))
                numbers = () if number is None else (number,)
            if not numbers:
                raise UnknownReference(reference)
            remove_versions(self.root, wanted.name, listing, numbers, every=every)
        self.changed()
        return [f"{wanted.name}:{number}" for number in numbers]

    def collect(self, *, grace: float = GRACE) -> Collected:
        """Delete files that no version needs, and what killed writers left behind.

        Args:
            grace: seconds for which the files of a removed version, and any file after it was written, stay.

        Raises:
            RegistryError: a version is damaged, so it is not known which files it needs.
        """
        with writing(self.root):
            return collect(self.root, grace)

    def verify(self) -> list[Fault]:
        """Read everything through: what is damaged, missing, or does not belong there."""
        return verify(self.root)

    def push(self, reference: str, target: str | Path) -> str:
        """Write a version as an artifact that stands on its own.

        Args:
            reference: what to write.
            target: a folder that is not there yet, or ``hf://owner/name``, a repository of the hub; made, for its
                owner's eyes only, where there is none.

        Returns:
            Where it is.

        Raises:
            UnknownReference: there is no such version.
            ArtifactError: it is damaged.
            OutputError: the folder is there already, or cannot be written.
            RegistryError: the hub will not have it.
        """
        return push(self.root, self.resolve(reference), str(target))

    def pull(self, source: str | Path, name: str, *, aliases: Sequence[str] = (), unfolded: bool = False) -> Version:
        """Publish what another registry, or anyone, has pushed; `add` for an artifact that may lie on the hub.

        Args:
            source: a folder, or ``hf://owner/name`` or ``hf://owner/name@revision``.
            name, aliases, unfolded: as for `add`.

        Raises:
            RegistryError: the hub cannot give it; or as for `add`.
            ArtifactError, OutputError: as for `add`.
        """
        with pulled(str(source)) as folder:
            return self.add(folder, name, aliases=aliases, unfolded=unfolded)

    def _listing(self, name: str) -> Listing:
        listing = self._index.get(name)
        if listing is None or not listing.live:
            raise UnknownReference(name)
        return listing

    def _version(self, name: str, number: int) -> Version:
        found = self._versions.get((name, number))
        if found is None:
            found = self._versions[name, number] = read_version(self.root, name, number, kind=LIVE)
        return found

    def _digests(self, wanted: Reference, listing: Listing) -> dict[int, str]:
        """Digests of a task's versions, where a reference needs them; `verify` tells of damaged ones."""
        found = {}
        for number in listing.live if wanted.digest is not None else ():
            try:
                found[number] = self._version(wanted.name, number).digest
            except RegistryError:
                continue
        return found


def publishable(artifact: Path, name: str, aliases: Sequence[str] = ()) -> tuple[Artifact, list[str]]:
    """What `Registry.add` would publish, and all that would stand for it, checked.

    Raises:
        RegistryError: the name or an alias is none.
        ArtifactError: the artifact is damaged.
    """
    check_name(name)
    words = [LATEST, *(check_alias(alias) for alias in aliases)]
    return load_artifact(artifact), words
