"""Soft prompts with layer deltas: vectors at the input, and a learned change of them at every layer.

Source: Qin & Eisner 2021, 'Learning How to Ask: Querying LMs with Mixtures of Soft Prompts', section
3.3. The paper's change at layer 0 is one of the input vectors, which are trained here as they are; its
change behind the last layer moves states that no head reads. So the layers between have one each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from foreword.errors import MethodError
from foreword.injection import Anchor, InputPrompt, Prompt
from foreword.methods.base import Host
from foreword.methods.prompt_tuning import PromptTuning, VectorEncoder


class LayerDeltas(PromptTuning):
    """Settings of soft prompts with layer deltas: those of prompt tuning, from which it starts."""

    name: ClassVar[str] = "layer-deltas"
    summary: ClassVar[str] = "vectors at the input, and a change of them at every layer (Qin & Eisner 2021)"

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> DeltaEncoder:
        """The prompt of prompt tuning, with deltas of zero for every layer of its stack but the first."""
        stack = next(iter(backbone.sites)).stack
        layers = sorted({site.layer for site in backbone.sites if site.stack == stack} - {0})
        if not layers:
            raise MethodError("layer deltas need a backbone of two layers or more. Use 'prompt-tuning'")
        plain = super().build(backbone, labels)
        return DeltaEncoder(plain.vectors.detach(), plain.anchors, self.dropout, layers, backbone.hidden_size)


class DeltaEncoder(VectorEncoder):
    """Vectors, and what is added to them at some layers.

    Args:
        start: ``(P, W)``.
        anchors: P places.
        dropout: of single numbers, while training.
        layers: which have a delta.
        hidden_size: D.
    """

    def __init__(
        self, start: Tensor, anchors: Sequence[Anchor], dropout: float, layers: Sequence[int], hidden_size: int
    ) -> None:
        super().__init__(start, anchors, dropout)
        self.layers = tuple(layers)
        self.deltas = nn.Parameter(torch.zeros(len(layers), len(anchors), hidden_size))

    def forward(self) -> Prompt:
        """Vectors and deltas, with dropout while training."""
        deltas = dict(zip(self.layers, self.dropout(self.deltas), strict=True))
        return Prompt(inputs=InputPrompt(self.dropout(self.vectors), self.anchors, deltas))

    @torch.no_grad()
    def start_from(self, prompt: Prompt) -> None:
        """Take the first vectors, and their deltas where there are any: prompt tuning is a start too."""
        given = self._fitting(prompt)
        self._take(given)
        for place, layer in enumerate(self.layers):
            if layer in given.deltas and not self.deltas.is_meta and not given.deltas[layer].is_meta:
                rows = given.deltas[layer][: self.deltas.shape[1]]
                self.deltas[place, : len(rows)].copy_(rows)
