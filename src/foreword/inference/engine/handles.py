"""What a reference was resolved to, once: names that can be moved later do not matter any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Literal, Protocol

from foreword.artifacts.format import Artifact
from foreword.artifacts.manifest import Manifest
from foreword.artifacts.tensors import served_names
from foreword.errors import UnknownReference
from foreword.registry import Registry
from foreword.tasks import TASKS, WritingTask

Vote = Literal["mean", "majority"]
"""The answer of an ensemble: that of the mean probabilities, or the one most members give."""


@dataclass(frozen=True)
class Member:
    """One published artifact.

    Attributes:
        task: the name it was asked for by, without version or alias.
        version: its number; None where it has none.
        digest: 64 hex digits that only this artifact has; the identity of all that is kept of it.
        manifest: what it says of itself.
        open: reads and checks all of it.
    """

    task: str
    version: int | None
    digest: str
    manifest: Manifest = field(compare=False, repr=False)
    open: Callable[[], Artifact] = field(compare=False, repr=False)

    @property
    def writes(self) -> bool:
        """Whether its answers are written by a language model."""
        return issubclass(TASKS[self.manifest.task.type], WritingTask)

    @property
    def known_as(self) -> str:
        """For messages."""
        return self.task if self.version is None else f"{self.task}:{self.version}"


@dataclass(frozen=True)
class Handle:
    """One artifact, or an ensemble of several.

    Attributes:
        task: the name; of an ensemble, the names of its members, each once, with + between them.
        version: None for an ensemble, and where there are no versions.
        digest: 64 hex digits.
        model: the first 12 hex digits of the digest of the backbone's weights.
        members: one, or those of the ensemble.
        writes: whether its answers are written by a language model.
        vote: how an ensemble decides; None for a single artifact.
    """

    task: str
    version: int | None
    digest: str
    model: str
    members: tuple[Member, ...]
    writes: bool
    vote: Vote | None = None

    @classmethod
    def of(cls, member: Member, model: str) -> Handle:
        """A single artifact."""
        return cls(member.task, member.version, member.digest, model, (member,), member.writes)

    @classmethod
    def ensemble(cls, members: tuple[Member, ...], model: str, vote: Vote) -> Handle:
        """Several that answer together."""
        name = "+".join(dict.fromkeys(member.task for member in members))
        digest = sha256("\n".join([vote, *(member.digest for member in members)]).encode()).hexdigest()
        return cls(name, None, digest, model, members, members[0].writes, vote)


class References(Protocol):
    """Whatever knows artifacts by reference."""

    def member(self, reference: str) -> Member:
        """Resolve a reference.

        Raises:
            UnknownReference: there is no such artifact.
        """


class Published:
    """Versions in a registry.

    Args:
        registry: looked at again by whoever wants it to be (`Registry.changed`).
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def member(self, reference: str) -> Member:
        """The version that a reference stands for at the registry's last look."""
        version = self._registry.resolve(reference)
        return Member(
            version.name, version.number, version.digest, version.manifest, partial(self._registry.open, version)
        )


class Held:
    """Artifacts in memory, by any name.

    Args:
        artifacts: name -> artifact.
    """

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self._artifacts = dict(artifacts)
        self._digests: dict[str, str] = {}

    def member(self, reference: str) -> Member:
        """The artifact of that name; it has no version."""
        artifact = self._artifacts.get(reference)
        if artifact is None:
            raise UnknownReference(reference)
        digest = self._digests.get(reference)
        if digest is None:
            digest = self._digests[reference] = _digest(artifact)
        return Member(reference, None, digest, artifact.manifest, lambda: artifact)


def _digest(artifact: Artifact) -> str:
    """Of the manifest and of the numbers, since a program may have changed these."""
    found = sha256(artifact.manifest.model_dump_json().encode())
    for name, tensor in sorted(served_names(artifact.head, artifact.prompt, artifact.attachment).items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
