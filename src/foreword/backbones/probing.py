"""Running a backbone over a few blank inputs, to learn where its attention can read a prefix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foreword.backbones.attention import KEYWORD
from foreword.backbones.call import PrefixCall
from foreword.backbones.families import FAMILIES, image_shape
from foreword.backbones.loaded import Loaded
from foreword.backbones.sites import Sites, find_sites, watch_layers
from foreword.errors import BackboneError


def find_backbone_sites(backbone: Loaded) -> Sites:
    """Every site of every stack, and hooks on its layers for the deltas of input prompts.

    Raises:
        BackboneError: no attention of the model can be reached.
    """
    only = "decoder" if backbone.kind == "decoder" else "encoder"
    sites = find_sites(lambda call: _probe(backbone, call, 3), lambda _: only)
    if not sites.shapes:
        raise BackboneError(
            f"{backbone.name}: the attention of this {backbone.family} model cannot be reached through the attention "
            "interface of transformers. Run `foreword backbones` for the families that can be used"
        )
    watch_layers(backbone.trunk, sites)
    if backbone.kind != "encoder-decoder" or not backbone.language_model:
        return sites
    stacks = {(2, 2): "decoder", (2, 3): "cross", (3, 3): "encoder"}
    return find_sites(lambda call: _probe(backbone, call, 3, 2), lambda found: stacks[found.queries, found.keys])


def run_probe(backbone: Loaded, call: PrefixCall, ids: Tensor, written: Tensor | None) -> None:
    """Run the trunk over ids ``(1, T)``, or the whole model if it is to write ``(1, U)``, for what the call learns."""
    inputs: dict[str, Any] = {"input_ids": ids}
    if not ids.is_meta:  # transformers looks into a mask, and of a model without numbers there is nothing to see
        inputs["attention_mask"] = torch.ones_like(ids)
    elif backbone.kind == "decoder":
        inputs["attention_mask"] = _causal(ids)
    if written is None:
        FAMILIES[backbone.family].run(backbone.trunk, inputs, call)
    else:
        inputs |= {"decoder_input_ids": written, "decoder_attention_mask": _causal(written)}
        backbone.model(**inputs, **{KEYWORD: call})


def _probe(backbone: Loaded, call: PrefixCall, length: int, written: int = 0) -> None:
    """Run over a blank image, or over ``length`` tokens and ``written`` ones behind them."""
    if backbone.kind == "image":
        shape = image_shape(backbone.trunk.config)
        blank = torch.zeros((1, *shape), dtype=backbone.model.dtype, device=backbone.device)
        FAMILIES[backbone.family].run(backbone.trunk, {"pixel_values": blank}, call)
        return
    ids = torch.zeros((1, length), dtype=torch.long, device=backbone.device)
    run_probe(backbone, call, ids, ids[:, :written] if written else None)


def _causal(ids: Tensor) -> Tensor:
    """A finished mask ``(1, 1, T, T)`` for one row, which transformers takes without looking into it."""
    return torch.ones((1, 1, ids.shape[1], ids.shape[1]), dtype=torch.bool, device=ids.device).tril()
