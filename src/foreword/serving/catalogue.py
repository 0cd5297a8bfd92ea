"""What can be asked: the registry's tasks, described for those who ask."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from foreword.errors import RegistryError
from foreword.inference.engine import Engine
from foreword.registry import Registry, Version
from foreword.serving.examples import example_of, fields_of
from foreword.serving.keys import Caller
from foreword.serving.schemas import ModelInfo, TaskDetails, TaskInfo, TaskList, VersionInfo
from foreword.tasks import TASKS

_KEPT = 4096
"""Descriptions of versions that are kept."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a version reads, worked out once.

    Attributes:
        kind: the word for the kind of task.
        labels: it can give, where there are any.
        fields: an input may have -> whether it must.
        example: an input to try.
    """

    kind: str
    labels: tuple[str, ...] | None
    fields: dict[str, bool]
    example: dict[str, Any]


class Catalogue:
    """Descriptions of the tasks of a registry.

    Args:
        engine: which of them are in memory.
        registry: what there is.
    """

    def __init__(self, engine: Engine, registry: Registry) -> None:
        self._engine, self._registry = engine, registry
        self._known: OrderedDict[str, Description] = OrderedDict()

    def describe(self, digest: str, component: Any) -> Description:
        """What a version reads.

        Args:
            digest: of the version.
            component: the part ``task`` of its manifest.
        """
        found = self._known.get(digest)
        if found is None:
            task = TASKS[component.type].model_validate(component.settings)
            found = Description(component.type, task.labels, fields_of(task), example_of(task))
            self._known[digest] = found
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return found

    def model(self) -> ModelInfo:
        """The frozen model."""
        backbone = self._engine.backbone
        return ModelInfo(name=backbone.identity.name, digest=self._engine.model, max_length=backbone.max_length)

    def tasks(self, caller: Caller) -> TaskList:
        """All that a caller may ask."""
        used = self._engine.stats().last_used
        names = [name for name in self._registry.names() if caller.may_ask(name)]
        return TaskList(model=self.model(), tasks=[info for name in names if (info := self._info(name, used))])

    def task(self, name: str) -> TaskDetails | None:
        """One task with its versions; None if it has none."""
        info = self._info(name, self._engine.stats().last_used)
        if info is None:
            return None
        return TaskDetails(**dict(info), details=[_version(one) for one in self._registry.versions(name)])

    def _info(self, name: str, used: dict[str, float]) -> TaskInfo | None:
        """None for what is not there, was removed just now, or is damaged: those who ask it are told."""
        try:
            versions, aliases = self._registry.versions(name), self._registry.aliases(name)
        except RegistryError:
            return None
        latest = next((one for one in versions if one.number == aliases.get("latest")), versions[-1])
        told = self.describe(latest.digest, latest.manifest.task)
        return TaskInfo(
            task=name,
            kind=told.kind,
            latest=latest.number,
            aliases=aliases,
            versions=[one.number for one in versions],
            labels=None if told.labels is None else list(told.labels),
            fields=told.fields,
            example=told.example,
            resident=self._resident(latest),
            last_used=used.get(name),
        )

    def _resident(self, version: Version) -> bool:
        try:
            return self._engine.resident(self._engine.resolve(version.reference))
        except RegistryError:
            return False  # removed just now


def _version(one: Version) -> VersionInfo:
    manifest = one.manifest
    return VersionInfo(
        version=one.number,
        digest=one.digest,
        created=one.created,
        method=manifest.method.type,
        metrics=manifest.metrics.values,
        main=manifest.metrics.main,
        parameters=manifest.parameters.trained,
    )
