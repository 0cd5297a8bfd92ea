"""One vector per row: classification of a text or a pair."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from foreword.heads.base import Head

Pooling = Literal["mean", "first"]


class PooledHead(Head):
    """Pool, then classify with a linear layer, or with one tanh layer in between.

    The backbone's own pooler is never used: the tanh layer, if wanted, is trained and saved here.

    Args:
        hidden_size: D.
        labels: C.
        pooling: 'mean' over real tokens, or the 'first' token ([CLS]) as in BERT.
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

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """``(B, C)``."""
        if self.pooling == "first":
            pooled = hidden[:, 0]
        else:
            weights = mask.to(hidden.dtype)[:, :, None]
            pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        logits: Tensor = self.layers(pooled)
        return logits
