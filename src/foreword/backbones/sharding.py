"""The layers of a frozen backbone, shared out among processes that run it together.

Each process keeps an equal part of every layer's weights, and is lent the parts of the others while the layer runs. All
must run the same layers in the same order. Embeddings, what stands behind the layers, and all that is trained stay
whole.

Source: Zhao et al. 2023 ('PyTorch FSDP'); Rajbhandari et al. 2020 ('ZeRO'), section 5.3.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from foreword.backbones.backbone import Backbone
from foreword.backbones.families import FAMILIES
from foreword.errors import BackboneError


def shard_layers(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Leave each process its part of every layer, on its device. A backbone that is shared out already stays as it is.

    Args:
        backbone: the same in all of them; no weights of it are trained from here on.
        mesh: of the processes, in a row.

    Raises:
        BackboneError: its weights are quantized, or were tuned.
    """
    if backbone.sharded:
        return
    check_shardable(backbone)
    backbone.identity  # noqa: B018  taken while the weights are here
    for layer in backbone.layers.values():
        for part in _called(layer) if FAMILIES[backbone.family].runs_layers else [layer]:
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
    backbone.sharded = True


def check_shardable(backbone: Backbone) -> None:
    """Refuse a backbone whose layers cannot be shared out.

    Raises:
        BackboneError: its weights are quantized, or were tuned.
    """
    if backbone.quantization is not None:
        raise BackboneError(
            f"{backbone.name}: weights quantized to '{backbone.quantization}' cannot be shared out among processes. "
            "Leave --use_fsdp out, or backbone.quantization"
        )
    if backbone.tuned:
        raise BackboneError(
            f"{backbone.name}: its weights were tuned, and only frozen ones are shared out. Load it anew"
        )


def _called(layer: nn.Module) -> list[nn.Module]:
    """The parts of a layer that are called where its family computes it by its parts: those with none of their own."""
    return [m for m in layer.modules() if next(m.children(), None) is None and next(m.parameters(), None) is not None]
