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
        hidden_layer: whether a trained tanh layer of width D precedes the linear one.
        dropout: before each linear layer.
        chooses_class: whether the outputs are classes of which one is chosen, and not numbers by themselves.
        states: S, hidden states per position that stand side by side: 1, or N + 1 of every layer.
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
        states: int = 1,
    ) -> None:
        super().__init__()
        self.every_layer = states > 1
        self.class_axis = -1 if chooses_class else None
        self.pooling = pooling
        self.layers = perceptron(states * hidden_size, hidden_size, outputs, hidden_layer=hidden_layer, dropout=dropout)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, C)``."""
        del marks
        logits: Tensor = self.layers(pool(hidden, mask, self.pooling))
        return logits


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """One vector per row, ``(B, D)``, of states ``(B, T, D)``; padding, 0 in ``mask``, may be on either side."""
    if pooling == "first":
        return hidden[:, 0]
    if pooling == "last":
        last = mask.shape[1] - 1 - mask.bool().flip(1).int().argmax(1)  # (B,)
        return hidden[torch.arange(len(last), device=last.device), last]
    return mean(hidden, mask)


def mean(hidden: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the positions that are not 0 in ``chosen`` ``(B, T)``, ``(B, D)``; 0 where there are none."""
    weights = chosen.to(hidden.dtype)[:, :, None]
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def perceptron(width: int, inner: int, outputs: int, *, hidden_layer: bool, dropout: float) -> nn.Sequential:
    """A linear layer from ``width``, or one behind a tanh layer of width ``inner``; dropout before each."""
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    if hidden_layer:
        layers += [nn.Linear(width, inner), nn.Tanh(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(inner if hidden_layer else width, outputs))
