"""How the numbers of a prompt are parameterized while it is trained.

Both give one matrix ``(P, columns)``; after training only the matrix is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Direct(nn.Module):
    """The matrix itself is the parameter.

    Args:
        length: P.
        columns: numbers per prompt position.
        scale: standard deviation of the normal start.
    """

    def __init__(self, length: int, columns: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(length, columns) * scale)

    def forward(self) -> Tensor:
        """``(P, columns)``."""
        return self.weight


class MLP(nn.Module):
    """An embedding per position through Linear, tanh, Linear; run once per step, not once per row.

    Source: Li & Liang 2021, section 4.3; Liu et al. 2022, section 3.3 (its code: embeddings of the
    backbone's width, a hidden layer of 512).

    Args:
        length: P.
        columns: numbers per prompt position.
        width: of the embeddings, D.
        hidden: width of the hidden layer.
        scale: standard deviation of the embeddings' start; the layers start as torch's do.
    """

    def __init__(self, length: int, columns: int, width: int, hidden: int, scale: float) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(length, width) * scale)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, columns))

    def forward(self) -> Tensor:
        """``(P, columns)``."""
        out: Tensor = self.layers(self.embedding)
        return out
