"""The trunk caches of a run: whether it has any, and what they did for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from foreword.backbones import Backbone
from foreword.caching import open_store
from foreword.inference.trunk import make_trunk_cache, refuse_trunk, why_no_trunk
from foreword.methods import Blueprint, Method, attach
from foreword.model import PromptedModel, first_layer
from foreword.training.settings import TrainingSettings


class Trunks:
    """A trunk cache for each model of a run, where the settings ask for one; all share a store.

    Left to itself, a run has them in memory if nothing is lost by it. Dropout inside the backbone, where it is wanted,
    is wanted in the lower layers too.

    Args:
        models: of the run; each is given its cache, or none.
        settings: of the run.

    Raises:
        MethodError: a cache is asked for, and there can be none.
    """

    def __init__(self, models: Mapping[str, PromptedModel], settings: TrainingSettings) -> None:
        self._caches = []
        for model in models.values():
            model.trunk = None
        if not _wanted(models, settings):
            return
        store = open_store("disk" if settings.trunk_cache == "disk" else "memory", settings.trunk_cache_bytes)
        store.begin()
        for model in models.values():
            model.trunk = make_trunk_cache(model, store)
            self._caches.append(model.trunk)

    @property
    def values(self) -> dict[str, Any]:
        """The facts by their name in a log; nothing in a run without a trunk cache."""
        return {} if self.facts is None else {"trunk_cache": self.facts}

    @property
    def facts(self) -> dict[str, int] | None:
        """The layer that is begun at, rows found and computed so far, and bytes in the store, of other runs too."""
        if not self._caches:
            return None
        first = self._caches[0]
        hits, misses = sum(one.hits for one in self._caches), sum(one.misses for one in self._caches)
        return {"layer": first.layer, "hits": hits, "misses": misses, "bytes": first.store.size}


def _wanted(models: Mapping[str, PromptedModel], settings: TrainingSettings) -> bool:
    if settings.trunk_cache is not None:
        return settings.trunk_cache != "off"
    if settings.backbone_dropout > 0 or settings.attention_dropout > 0:
        return False
    return all(
        why_no_trunk(model.backbone, model.first_layer, writes=model.head.reads == "continuation") is None
        for model in models.values()
    )


def check_trunk(method: Method, backbone: Backbone, settings: TrainingSettings, *, writes: bool) -> None:
    """See that a run can have the trunk cache that its settings ask for, before anything is made.

    Args:
        method: of the run, which fits the backbone.
        backbone: of the run.
        settings: of the run.
        writes: whether a task of it has answers that are written.

    Raises:
        MethodError: it cannot.
    """
    if settings.trunk_cache in (None, "off"):
        return
    with torch.device("meta"):
        attachment = attach(method, backbone)
    try:
        names = method.tuned([name for name, _ in backbone.model.named_parameters()])
        tuned = [weight for name, weight in backbone.model.named_parameters() if name in names]
        layer = first_layer(backbone, method.build(Blueprint(backbone)), attachment, tuned)
    finally:
        if attachment is not None:
            attachment.detach()
    refuse_trunk(why_no_trunk(backbone, layer, writes=writes))
