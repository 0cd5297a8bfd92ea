"""P-tuning: vectors around the text and the mask, made by a small network.

Source: Liu et al. 2021, 'GPT Understands, Too', sections 3.1 and 3.2, and the code of its LAMA
experiments. The network runs once per step and is folded away after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from foreword.injection import Anchor, InputPrompt, Prompt
from foreword.methods.base import Host, Method, PromptEncoder
from foreword.methods.making.initializers import input_width
from foreword.methods.making.template import Template, anchors_of

_AROUND: Template = (10, "text", 10)
_BEFORE: Template = (20, "text")


class PTuning(Method):
    """Settings of P-tuning."""

    name: ClassVar[str] = "p-tuning"
    summary: ClassVar[str] = "vectors around text and mask, made by an LSTM or an MLP (Liu et al. 2021)"

    template: Template | None = None
    """Counts of vectors and what they stand around: 'text', 'pair' (the second one) and, for tasks with one, 'mask'.
    When left out [10, 'text', 10]; [20, 'text'] on decoders, which never read what stands behind."""
    reparameterization: Literal["lstm", "mlp"] = "lstm"
    """What makes the vectors and is folded away afterwards: an LSTM of both directions and an MLP, or an MLP alone."""
    hidden: PositiveInt | None = None
    """Width of the LSTM per direction, or of the MLP alone; half the embeddings' width, or all of it, when left out."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which single numbers of the prompt are dropped while training."""

    @property
    def positions_taken(self) -> int:
        """P, the sum of the template's counts."""
        return len(anchors_of(self.template or _AROUND))

    @property
    def default_learning_rate(self) -> float:
        """Ten times the rate of the authors' SuperGLUE runs, in which the backbone was trained along."""
        return 1e-3

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> TemplateEncoder:
        """The network, and the places that the template speaks of."""
        del labels
        forward_only = {site.stack for site in backbone.sites} == {"decoder"}
        template = self.template or (_BEFORE if forward_only else _AROUND)
        return TemplateEncoder(self, anchors_of(template), input_width(backbone))


class TemplateEncoder(PromptEncoder):
    """An embedding per position through a network; all start as torch's modules do, like the authors'.

    LSTM: two layers of both directions, then Linear, ReLU, Linear. MLP: Linear, ReLU, Linear.

    Args:
        settings: network, dropout.
        anchors: P places.
        width: W.
    """

    def __init__(self, settings: PTuning, anchors: tuple[Anchor, ...], width: int) -> None:
        super().__init__()
        self.anchors = anchors
        self.embedding = nn.Parameter(torch.randn(len(self.anchors), width))
        self.lstm: nn.LSTM | None = None
        inner, hidden = width, settings.hidden or width
        if settings.reparameterization == "lstm":
            per_direction = settings.hidden or (width + 1) // 2
            self.lstm = nn.LSTM(width, per_direction, num_layers=2, bidirectional=True)
            inner, hidden = 2 * per_direction, width
        self.mlp = nn.Sequential(nn.Linear(inner, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self) -> Prompt:
        """The vectors, with dropout while training."""
        states = self.embedding if self.lstm is None else self.lstm(self.embedding)[0]  # (P, inner)
        return Prompt(inputs=InputPrompt(self.dropout(self.mlp(states)), self.anchors))
