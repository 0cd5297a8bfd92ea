"""Which models can have a trunk cache, and making one for them."""

from __future__ import annotations

from foreword.backbones import Backbone, TrunkCache
from foreword.caching import Store
from foreword.errors import MethodError
from foreword.model import PromptedModel


def make_trunk_cache(model: PromptedModel, store: Store) -> TrunkCache:
    """A cache of what lies below all that a model trains.

    Raises:
        MethodError: nothing can be known of its texts.
    """
    writes = model.head.reads == "continuation"
    refuse_trunk(why_no_trunk(model.backbone, model.first_layer, writes=writes))
    return TrunkCache(model.backbone, model.first_layer, store, every_layer=model.head.every_layer)


def why_no_trunk(backbone: Backbone, layer: int, *, writes: bool) -> str | None:
    """What speaks against a trunk cache, or None.

    Args:
        backbone: of the model.
        layer: the first that anything trained touches.
        writes: whether the model writes its answers.
    """
    if backbone.kind == "image":
        return f"a {backbone.family} model reads images, and the layers of those are not cached"
    if backbone.sharded:
        return "the backbone's layers are shared out among processes, which run them together for every text"
    if writes:
        return "the task's answers are written, and every word of one runs through all layers behind those before it"
    if layer == 0:
        return (
            "what is trained begins at the first layer (or before it), so nothing stays the same from step to step; "
            "only upper layers, such as method.layers = 'top-2', have something below them"
        )
    return None


def refuse_trunk(why: str | None) -> None:
    """Raise what speaks against a trunk cache that was asked for.

    Raises:
        MethodError: something does.
    """
    if why is not None:
        raise MethodError(f"no trunk cache is possible here: {why}. Leave the trunk cache off")
