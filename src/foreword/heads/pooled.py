"""One vector per row: classification of a text or a pair."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from foreword.heads.base import Head

Pooling = Literal["mean", "first", "last"]


class PooledHead(Head):
    """Pool, then classify with a linear layer, or with one tanh layer in between.

    The backbone's own pooler is never used: the tanh layer, if wanted, is trained and saved here.

    Args:
        hidden_size: D.
        labels: C.
        pooling: 'mean' over real tokens, the 'first' token ([CLS]) as in BERT, or the 'last' real token,
            which in a decoder is the only one that has read all others.
        hidden_layer: whether a trained D x D tanh layer precedes the linear one.
        dropout: before each linear layer.
    """

    def __init__(self, hidden_size: int, labels: int, *, pooling: Pooling, hidden_layer: bool, dropout: float) -> None:
        super().__init__()
        self.pooling = pooling
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        if hidden_layer:
            layers += [nn.Linear(hidden_size, hidden_size), nn.Tanh(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden_size, labels))

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
