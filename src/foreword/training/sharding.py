"""Which runs can have the layers of their backbone shared out among processes."""

from __future__ import annotations

from foreword.backbones import Backbone, check_shardable
from foreword.errors import MethodError
from foreword.methods import Method
from foreword.training.processes import Processes
from foreword.training.settings import TrainingSettings


def check_sharding(method: Method, settings: TrainingSettings, backbone: Backbone, processes: Processes) -> None:
    """See that the layers of a backbone can be shared out among processes, if they are to be.

    Raises:
        MethodError: a run of this kind needs them whole.
        BackboneError: its weights cannot be parted.
    """
    if not processes.sharding:
        return
    if method.tunes_backbone:
        raise MethodError(
            f"method.type: '{method.name}' trains weights of the backbone itself, and --use_fsdp shares a frozen one "
            "out. Leave --use_fsdp out: several processes train it without, too"
        )
    if settings.trunk_cache not in (None, "off"):
        raise MethodError(
            "training.trunk_cache: with --use_fsdp all processes run all layers together, so none can be left out for "
            "the texts of one. Leave one of the two out"
        )
    check_shardable(backbone)
