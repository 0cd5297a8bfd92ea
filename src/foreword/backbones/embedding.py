"""The embedding seam: where the vectors of an input prompt stand among the tokens of each row.

Tokens and prompt vectors are put into one sequence *before* position and type embeddings are added,
once, and the hidden states of the text are taken out again afterwards. So no task ever sees a
virtual token: not in its logits, its pooled position, its spans, or its labels.

Source: Lester et al. 2021, section 2; places between the tokens as in Liu et al. 2021 (P-tuning).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foreword.errors import BackboneError
from foreword.injection import Anchor, RowInputs

_LAST = 1 << 40
"""A place behind everything."""


@dataclass(frozen=True)
class Layout:
    """Where everything stands in the sequence that runs.

    Attributes:
        order: ``(B, S)``; which of ``[text; prompt]`` stands at each place, S the most that a row really has.
        mask: ``(B, S)`` int64, 1 for real tokens and visible prompt vectors.
        text: ``(B, T)`` place of each token of the text; of padding, any place.
        slots: ``(B, P)`` place of each prompt vector; of hidden ones, any place.
    """

    order: Tensor
    mask: Tensor
    text: Tensor
    slots: Tensor

    def arranged(self, text: Tensor, prompt: Tensor) -> Tensor:
        """Values per token ``(B, T, ...)`` and per prompt vector ``(B, P, ...)`` as ``(B, S, ...)``."""
        return _take(torch.cat([text, prompt.to(text.dtype)], dim=1), self.order)

    def unread(self, mask: Tensor) -> bool:
        """Whether some visible prompt vector stands behind all of its row's text, ``mask`` being the text's."""
        last = torch.where(mask.bool(), self.text, -1).amax(1, keepdim=True)
        return bool(((self.slots > last) & self.mask.gather(1, self.slots).bool()).any())

    def of_text(self, states: Tensor) -> Tensor:
        """``(B, S, D)`` back to ``(B, T, D)``."""
        return _take(states, self.text)


def lay_out(ids: Tensor, mask: Tensor, inputs: RowInputs | None, tokenizer: Any, *, padding: str = "right") -> Layout:
    """Place prompt vectors at their anchors, and all padding on one side.

    Args:
        ids: ``(B, T)`` token ids.
        mask: ``(B, T)``, nonzero for real tokens, padded on whatever side.
        inputs: the prompts of the rows, or None to only move the padding.
        tokenizer: which tells the special tokens that anchors speak of.
        padding: the side for it, "right" or "left".

    Raises:
        BackboneError: an anchor is at a mask token, and a row has none.
    """
    rows, tokens = ids.shape
    real = mask.bool()
    hidden = _LAST if padding == "right" else -1
    index = torch.arange(tokens, device=ids.device)
    text_keys = torch.where(real, 2 * index + 1, hidden)
    if inputs is None:
        slot_keys, visible = ids.new_zeros((rows, 0)), real[:, :0]
    else:
        visible = inputs.visible.expand(rows, -1)
        before = _anchor_tokens(ids, real, tokenizer).gather(1, inputs.anchors.expand(rows, -1))
        _check_masks(before, visible)
        slot_keys = torch.where(visible, 2 * before, hidden)
    order = torch.cat([text_keys, slot_keys], dim=1).argsort(dim=1, stable=True)
    places = order.argsort(dim=1)
    arranged = torch.cat([real, visible], dim=1).gather(1, order).long()
    longest = max(int(arranged.sum(1).max()), 1)  # a long text and a long prompt may be two rows'
    cut = 0 if padding == "right" else order.shape[1] - longest
    order, arranged = (values[:, cut : cut + longest] for values in (order, arranged))
    places = (places - cut).clamp(0, longest - 1)
    return Layout(order, arranged, places[:, :tokens], places[:, tokens:])


def _anchor_tokens(ids: Tensor, real: Tensor, tokenizer: Any) -> Tensor:
    """Per row and anchor, the token before which a vector with that anchor goes: ``(B, anchors)``.

    -1 where the row has no such place.
    """
    tokens = ids.shape[1]
    first = real.int().argmax(1)
    last = tokens - 1 - real.flip(1).int().argmax(1)
    special = torch.isin(ids, torch.tensor(tokenizer.all_special_ids, device=ids.device))
    masks = (ids == (-1 if tokenizer.mask_token_id is None else tokenizer.mask_token_id)) & real
    special &= ~masks
    opens = special.gather(1, first[:, None])[:, 0].long()
    closes = special.gather(1, last[:, None])[:, 0].long()
    separator = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    separators = (ids == (-1 if separator is None else separator)) & real
    masked = torch.where(masks.any(1), masks.int().argmax(1), -1)
    places = {
        Anchor.FRONT: first,
        Anchor.AFTER_FIRST: first + opens,
        Anchor.BETWEEN: torch.where(separators.any(1), separators.int().argmax(1) + 1, last + 1),
        Anchor.BEFORE_MASK: masked,
        Anchor.AFTER_MASK: torch.where(masked < 0, -1, masked + 1),
        Anchor.BEFORE_LAST: last + 1 - closes,
        Anchor.END: last + 1,
    }
    return torch.stack([places[anchor] for anchor in Anchor], dim=1)


def _check_masks(before: Tensor, visible: Tensor) -> None:
    lost = ((before < 0) & visible).any(1)
    if bool(lost.any()):
        raise BackboneError(
            f"row {int(lost.int().argmax())} of the batch has no mask token, which the prompt's template stands "
            "around. Use a task that has one, such as classification with head = 'verbalizer'"
        )


def _take(values: Tensor, index: Tensor) -> Tensor:
    """``values[b, index[b, s]]`` for ``(B, S)`` indices."""
    shape = (*index.shape, *values.shape[2:])
    wide = index.reshape(*index.shape, *[1] * (values.dim() - 2)).expand(shape)
    return values.gather(1, wide)
