"""How the numbers of a prompt are parameterized while it is trained.

Both give one matrix ``(P, columns)``; after training only the matrix is kept.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["direct", "mlp"]


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

    @torch.no_grad()
    def start(self, matrix: Tensor) -> None:
        """Become ``matrix``."""
        self.weight.copy_(matrix)


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

    @torch.no_grad()
    def start(self, matrix: Tensor) -> None:
        """Make ``matrix`` come out, by the smallest change of the last layer that does it.

        The code of Li & Liang takes 500 steps of Adam on the squared error to come near; gradient
        descent on the last layer alone would end here. It is exact where the hidden layer is as wide
        as the prompt is long, and else the nearest in the squared error.
        """
        # Embeddings close to one another could be told apart by huge weights only: spread them as theirs, N(0, 1).
        self.embedding.div_(self.embedding.std().clamp(max=1))
        last = self.layers[2]
        hidden = self.layers[:2](self.embedding).double()
        inputs = torch.cat([hidden, torch.ones_like(hidden[:, :1])], dim=1)  # (P, hidden + 1)
        change = torch.linalg.pinv(inputs) @ (matrix - self()).double()
        last.weight += change[:-1].T  # (columns, hidden)
        last.bias += change[-1]


def reparameterized(kind: Kind, length: int, columns: int, *, width: int, hidden: int, scale: float) -> Direct | MLP:
    """The module of a kind; ``width`` and ``hidden`` are the MLP's."""
    return Direct(length, columns, scale) if kind == "direct" else MLP(length, columns, width, hidden, scale)
