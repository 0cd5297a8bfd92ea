"""Prompts that a foreign checkpoint keeps as an embedding and an MLP with tanh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from foreword.exchange.foreign import Linear
from foreword.exchange.heads import linear
from foreword.exchange.reading import float32
from foreword.methods.making.reparameterization import MLP, Direct


@dataclass(frozen=True)
class Matrix:
    """A matrix ``(P, columns)`` as a checkpoint keeps it.

    Attributes:
        embedding: ``(P, columns)``, or ``(P, D)`` where there are layers.
        layers: of the MLP, input to output; none where the matrix itself was trained.
    """

    embedding: Tensor
    layers: Sequence[Linear] = ()

    @property
    def hidden(self) -> int | None:
        """Width of the hidden layer of an MLP like ours; None where it is another or there is none."""
        return len(self.layers[0][0]) if len(self.layers) == 2 else None

    @torch.no_grad()
    def folded(self) -> Tensor:
        """``(P, columns)``."""
        out = self.embedding
        for number, (weight, bias) in enumerate(self.layers):
            out = nn.functional.linear(torch.tanh(out) if number else out, weight, bias)
        return out

    @torch.no_grad()
    def into(self, ours: Direct | MLP) -> None:
        """Give our own module these numbers, the MLP's where it is one."""
        if isinstance(ours, Direct):
            ours.start(self.folded())
            return
        ours.embedding.copy_(self.embedding)
        places = [layer for layer in ours.layers if isinstance(layer, nn.Linear)]
        for place, (weight, bias) in zip(places, self.layers, strict=True):
            place.weight.copy_(weight)
            place.bias.copy_(bias)


def read_matrix(
    tensors: Mapping[str, Tensor], embedding: str, mlp: str, path: Path, *, columns: int, width: int
) -> Matrix:
    """An embedding, and the layers of its MLP if there are any.

    Args:
        tensors: of the checkpoint.
        embedding: name of the embedding's weight.
        mlp: what the names of the layers begin with; they are numbered 0, 2, ... with tanh between them.
        path: for messages.
        columns: of the matrix.
        width: of the embeddings where there is an MLP, D.

    Raises:
        ArtifactError: something is missing, or of another shape.
    """
    numbers: list[int] = []
    while f"{mlp}.{2 * len(numbers)}.weight" in tensors:
        numbers.append(2 * len(numbers))
    if not numbers:
        return Matrix(float32(tensors[embedding], embedding, (None, columns), path))
    layers, inputs = [], width
    for number in numbers:
        layers.append(linear(tensors, f"{mlp}.{number}", inputs, path))
        inputs = len(layers[-1][0])
    found = Matrix(float32(tensors[embedding], embedding, (None, width), path), layers)
    float32(found.folded(), f"{mlp}.{numbers[-1]}", (None, columns), path)
    return found
