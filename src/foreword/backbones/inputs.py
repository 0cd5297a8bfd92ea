"""What a model is given for a batch with prompts: embeddings in their places, positions, and checks of both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foreword.backbones.embedding import Layout
from foreword.backbones.families import FAMILIES
from foreword.backbones.loaded import Loaded
from foreword.errors import BackboneError
from foreword.injection import Injection, RowInputs


def check_prompts(backbone: Loaded, injection: Injection) -> None:
    """Refuse prompts of a kind that the model cannot read.

    Raises:
        BackboneError: saying which, and why.
    """
    who = f"{backbone.name}: a {backbone.family} model"
    if any(prompt.inputs is not None for prompt in injection.bank) and "inputs_embeds" not in backbone.accepts:
        reads = "images" if backbone.kind == "image" else "token ids"
        raise BackboneError(
            f"{who} takes {reads} and no embeddings, so no vectors can be put among them. "
            "Use a method that trains keys and values, such as ptuning-v2"
        )
    if injection.modulates and backbone.kind == "image":
        raise BackboneError(f"{who} reads images, whose hidden states are not modulated. Use another method than 'ssf'")
    if any(prompt.infix for prompt in injection.bank) and backbone.kind != "decoder":
        raise BackboneError(f"{who} is no decoder, so a prompt cannot stand behind its text (infix)")
    if any(prompt.shift_positions for prompt in injection.bank) and "position_ids" not in backbone.accepts:
        raise BackboneError(f"{who} numbers its positions itself, so they cannot be shifted (shift_positions)")


def laid_out(backbone: Loaded, layout: Layout, inputs: dict[str, Any], prompts: RowInputs | None) -> dict[str, Any]:
    """The model's inputs with prompt vectors in their places and all padding behind."""
    ids = inputs["input_ids"]
    nothing = ids.new_zeros((ids.shape[0], layout.slots.shape[1]))
    out: dict[str, Any] = {"attention_mask": layout.mask}
    if "token_type_ids" in inputs:
        out["token_type_ids"] = layout.arranged(inputs["token_type_ids"], nothing)
    if prompts is None:
        out["input_ids"] = layout.arranged(ids, nothing)
    else:
        vectors = prompts.vectors.expand(ids.shape[0], -1, -1)
        out["inputs_embeds"] = layout.arranged(backbone.embed(ids), vectors)
    return out


def positions(backbone: Loaded, mask: Tensor, injection: Injection) -> dict[str, Tensor]:
    """Position numbers, where a prompt of the batch shifts them; and a check that all of them exist."""
    shifts = position_shifts(injection, mask.device)
    backbone.check_length(mask.shape[1] + (0 if shifts is None else int(shifts.max())))
    if shifts is None:
        return {}
    first = FAMILIES[backbone.family].first_position(backbone.trunk.config)
    return {"position_ids": torch.arange(mask.shape[1], device=mask.device) + first + shifts[:, None]}


def position_shifts(injection: Injection | None, device: torch.device) -> Tensor | None:
    """How far the positions of each row are shifted by its prefix, ``(B or 1,)``; None where no prompt asks for it."""
    if injection is None or not any(prompt.shift_positions for prompt in injection.bank):
        return None
    return injection.flags(lambda prompt: prompt.length if prompt.shift_positions else 0, device)
