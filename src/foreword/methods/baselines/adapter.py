"""Bottleneck adapters: a narrow trained detour after every layer of a frozen backbone.

Source: Houlsby et al. 2019, 'Parameter-Efficient Transfer Learning for NLP', section 2.1; one per
layer as in Pfeiffer et al. 2021 ('AdapterFusion', section 3.2.2). Departure from both: the adapter
stands behind the layer's last normalization and not before it, where no family's names are needed.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from foreword.attachment import Attachment
from foreword.methods.base import Carrier, Method

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


class Adapter(Method):
    """Settings of bottleneck adapters."""

    name: ClassVar[str] = "adapter"
    summary: ClassVar[str] = "baseline: a bottleneck after every layer (Houlsby et al. 2019)"

    bottleneck: PositiveInt = 48
    """Width of the detour. Houlsby et al. try 8, 64 and 256; Pfeiffer et al. a sixteenth of D, 48 for a base model."""
    activation: Literal["relu", "gelu", "silu", "tanh"] = "relu"
    """Between the two projections."""
    init_scale: PositiveFloat = 0.01
    """Standard deviation of the first projection's start; the second starts at zero, so the adapter does nothing."""

    @property
    def attaches(self) -> bool:
        """One bottleneck per layer."""
        return True

    def attach(self, backbone: Carrier, attachment: Attachment) -> None:
        """A `Bottleneck` behind each layer; layers that share their weights share it."""
        for name, layer in backbone.layers.items():
            bottleneck = Bottleneck(backbone.hidden_size, self)
            attachment.put(name, layer, bottleneck, bottleneck.after)

    @property
    def default_learning_rate(self) -> float:
        """The middle of those Houlsby et al. search through (section 3.1)."""
        return 3e-4


class Bottleneck(nn.Module):
    """``hidden + up(activation(down(hidden)))``.

    Args:
        hidden_size: D.
        settings: width, activation and start.
    """

    def __init__(self, hidden_size: int, settings: Adapter) -> None:
        super().__init__()
        self.down = nn.Linear(hidden_size, settings.bottleneck)
        self.activation = _ACTIVATIONS[settings.activation]()
        self.up = nn.Linear(settings.bottleneck, hidden_size)
        nn.init.normal_(self.down.weight, std=settings.init_scale)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, hidden: Tensor) -> Tensor:
        """``(..., D)`` in the type of ``hidden``."""
        narrow = self.activation(self.down(hidden.to(self.down.weight.dtype)))
        wide: Tensor = self.up(narrow)
        return hidden + wide.to(hidden.dtype)

    def after(self, layer: Any, *args: Any, **kwargs: Any) -> Any:
        """What a layer gives, its hidden states (alone or first of several) led through here."""
        out = layer(*args, **kwargs)
        return (self(out[0]), *out[1:]) if isinstance(out, tuple) else self(out)
