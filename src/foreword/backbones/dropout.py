"""Dropout at half of its usual cost on a CPU.

Most of the time of dropout on a CPU goes into drawing a Bernoulli variable per element. One random
byte per element is enough and takes half of it away (benchmarks/cpu_kernels.py): the probability is
rounded to a multiple of 1/256, and kept elements are scaled by exactly what that makes them need.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ByteDropout(nn.Module):
    """Drop-in for `torch.nn.Dropout`.

    Args:
        p: probability of dropping an element, in [0, 1); rounded to a multiple of 1/256.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with elements dropped and the rest scaled up while training; ``x`` itself otherwise."""
        threshold = round(self.p * 256)
        if not self.training or threshold == 0:
            return x
        words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64, device=x.device)
        words.random_(-(2**63), 2**63 - 1)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= threshold
        return x * (kept.to(x.dtype) * (256 / (256 - threshold)))

    def extra_repr(self) -> str:
        """As `torch.nn.Dropout` shows itself."""
        return f"p={self.p}"


def set_dropout(model: nn.Module, p: float) -> None:
    """Choose the probability of all dropout in ``model`` but that of attention, which comes with every call.

    Layers that call the function (BART's) instead of a module hold the probability as a number. Whole layers
    are never dropped, and nothing is inside a feed-forward part.
    """
    for module in model.modules():
        if isinstance(module, ByteDropout):
            module.p = p
        for name, value in (("dropout", p), ("activation_dropout", 0.0), ("layerdrop", 0.0)):
            if isinstance(getattr(module, name, None), float | int):
                setattr(module, name, value)


def use_byte_dropout(model: nn.Module) -> None:
    """Put a `ByteDropout` of the same probability in place of every `torch.nn.Dropout` in ``model``."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, ByteDropout(child.p))
