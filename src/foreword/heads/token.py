"""One vector per token: tagging, and the two ends of an answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foreword.heads.base import Head


class TokenHead(Head):
    """A linear layer on every token: C tags, or C = 2 for the start and end of a span.

    Args:
        hidden_size: D.
        outputs: C.
        dropout: before the linear layer.
        chooses_position: whether each output chooses one of the positions, and not each position a tag.
        states: hidden states per position, as of `PooledHead`.
    """

    def __init__(
        self, hidden_size: int, outputs: int, *, dropout: float, chooses_position: bool = False, states: int = 1
    ) -> None:
        super().__init__()
        self.every_layer = states > 1
        self.class_axis = 1 if chooses_position else -1
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(states * hidden_size, outputs)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, T, C)``; the lowest number at padding, so that a softmax over positions never sees it."""
        del marks
        logits: Tensor = self.linear(self.dropout(hidden))
        return logits.masked_fill(mask[:, :, None] == 0, torch.finfo(logits.dtype).min)
