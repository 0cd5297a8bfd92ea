"""One vector per row: classes, labels or a number for a text or a pair."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from foreword.heads.base import Head

Pooling = Literal["mean", "first", "last"]


class PooledHead(Head):
    """Pool, then a linear layer, or one tanh layer and then a linear one.

    The backbone's own pooler is never used: the tanh layer, if wanted, is trained and saved here.

    Args:
        hidden_size: D.
        outputs: C.
        pooling: 'mean' over real tokens, the 'first' token ([CLS]) as in BERT, or the 'last' real token,
            which in a decoder is the only one that has read all others.
        hidden_layer: whether a trained D x D tanh layer precedes the linear one.
        dropout: before each linear layer.
        chooses_class: whether the outputs are classes of which one is chosen, and not numbers by themselves.
    """

    def __init__(
        self,
        hidden_size: int,
        outputs: int,
        *,
        pooling: Pooling,
        hidden_layer: bool,
        dropout: float,
        chooses_class: bool = True,
    ) -> None:
        super().__init__()
        self.class_axis = -1 if chooses_class else None
        self.pooling = pooling
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden_layer:
            layers += [nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_size, outputs))

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, C)``."""
        del marks
        if self.pooling == "first":
            pooled = hidden[:, 0]
        elif self.pooling == "last":
            last = mask.shape[1] - 1 - mask.bool().flip(1).int().argmax(1)  # (B,), on whatever side the padding is
            pooled = hidden[torch.arange(len(last), device=last.device), last]
        else:
            weights = mask.to(hidden.dtype)[:, :, None]
            pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits: Tensor = self.layers(pooled)
        return logits
