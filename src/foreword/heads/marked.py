"""The pooled text beside its marked stretches: classification of what a word means, or of two that may be one.

Source: the BERT baselines of Wang et al. 2019 (SuperGLUE): for WiC the representation of the marked word is put beside
that of [CLS]. For WSC theirs pools both spans by attention; here it is their mean, beside the text, as for WiC.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foreword.heads.base import Head
from foreword.heads.pooled import Pooling, mean, perceptron, pool


class MarkedHead(Head):
    """A linear layer, or one behind a tanh layer, on the pooled text and the mean of every marked stretch.

    Args:
        hidden_size: D.
        labels: C.
        stretches: S, how many every row has; their numbers in ``marks`` count from 1.
        pooling, dropout: as of `PooledHead`.
        hidden_layer: whether a trained (1 + S) D x D tanh layer precedes the linear one.
    """

    def __init__(
        self, hidden_size: int, labels: int, *, stretches: int, pooling: Pooling, hidden_layer: bool, dropout: float
    ) -> None:
        super().__init__()
        self.stretches, self.pooling = stretches, pooling
        width = (1 + stretches) * hidden_size
        self.layers = perceptron(width, hidden_size, labels, hidden_layer=hidden_layer, dropout=dropout)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, C)``; ``marks`` holds every stretch in every row."""
        if marks is None:
            raise TypeError("MarkedHead reads marked stretches, and these rows have none")
        means = [mean(hidden, marks == number) for number in range(1, self.stretches + 1)]
        logits: Tensor = self.layers(torch.cat([pool(hidden, mask, self.pooling), *means], dim=-1))
        return logits
