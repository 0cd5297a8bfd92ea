"""Scale and shift: one factor and one summand per hidden unit and layer, alone or beside a prompt.

Source: Lian et al. 2022, 'Scaling & Shifting Your Features: A New Baseline for Efficient Model Tuning', section 3.2.
Departures: the change stands before every layer of the first stack, where theirs is behind every operation; and it is
not folded into the backbone's weights, so rows of many tasks can be read in one pass, each with its own. In models
that normalize behind each layer, as BERT, it does what training the gains and biases of those norms does (`LNTuning`).

Keys and values in front of a layer never change how its attention weighs one word of the text against another (Petrov
et al. 2024, 'When Do Prompting and Prefix-Tuning Work? A Theory of Capabilities and Limitations'); 2 D numbers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn

from foreword.errors import MethodError
from foreword.injection import Modulation, Prompt
from foreword.methods.base import Host, Method, PromptEncoder


class SSF(Method):
    """Settings of scale and shift. With a prompt: `Combined(parts=[PTuningV2(), SSF()])`."""

    name: ClassVar[str] = "ssf"
    summary: ClassVar[str] = "scale and shift of what every layer is given (Lian et al. 2022)"

    @property
    def default_learning_rate(self) -> float:
        """By measurement (docs/studies)."""
        return 1e-2

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> ModulationEncoder:
        """Zeros, which change nothing, for every layer of the first stack."""
        del labels
        stack = next(iter(backbone.sites)).stack
        layers = sorted({site.layer for site in backbone.sites if site.stack == stack})
        return ModulationEncoder(layers, backbone.hidden_size)


class ModulationEncoder(PromptEncoder):
    """Scales and shifts, trained as they are.

    Args:
        layers: N numbers of layers.
        hidden_size: D.
    """

    def __init__(self, layers: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.scale = nn.Parameter(torch.zeros(len(layers), hidden_size))
        self.shift = nn.Parameter(torch.zeros(len(layers), hidden_size))

    def forward(self) -> Prompt:
        """The modulation of every layer."""
        pairs = zip(self.layers, self.scale, self.shift, strict=True)
        return Prompt(modulations={layer: Modulation(scale, shift) for layer, scale, shift in pairs})

    @torch.no_grad()
    def start_from(self, prompt: Prompt) -> None:
        """Take the numbers of the layers that the other prompt modulates."""
        if not prompt.modulations or prompt.prefix or prompt.inputs is not None:
            raise MethodError("scale and shift can start from a prompt of their own kind only")
        for layer, change in prompt.modulations.items():
            if change.scale.shape != self.scale.shape[1:] or layer not in self.layers:
                raise MethodError(f"a prompt that modulates {len(change.scale)} units at layer {layer} does not fit")
            if not self.scale.is_meta and not change.scale.is_meta:
                place = self.layers.index(layer)
                self.scale[place].copy_(change.scale)
                self.shift[place].copy_(change.shift)
