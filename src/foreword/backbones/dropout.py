"""Dropout at half of its usual cost on a CPU.

Most of the time of dropout on a CPU goes into drawing a Bernoulli variable per element. One random
byte per element is enough and takes half of it away (benchmarks/cpu_kernels.py): the probability is
rounded to a multiple of 1/256, and kept elements are scaled by exactly what that makes them need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def in_256ths(p: float) -> int:
    """A probability as the number of bytes, of all 256, that mean an element is dropped."""
    return round(p * 256)


def kept_at_random(shape: Sequence[int], dropped: int, device: torch.device) -> Tensor:
    """Which elements of a tensor stay, bool, if so many 256ths of them are dropped."""
    count = math.prod(shape)
    words = torch.empty((count + 7) // 8, dtype=torch.int64, device=device)
    words.random_(-(2**63), 2**63 - 1)
    return words.view(torch.uint8)[:count].view(*shape) >= dropped


def thinned(x: Tensor, kept: Tensor, dropped: int) -> Tensor:
    """``x`` without what is not kept, the rest scaled up by what that makes it need."""
    return x * (kept.to(x.dtype) * (256 / (256 - dropped)))


class ByteDropout(nn.Module):
    """Drop-in for `torch.nn.Dropout`.

    Args:
        p: probability of dropping an element, in [0, 1); rounded to a multiple of 1/256 on a CPU.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with elements dropped and the rest scaled up while training; ``x`` itself otherwise."""
        if x.device.type != "cpu":  # there it is one kernel
            return nn.functional.dropout(x, self.p, self.training)
        dropped = in_256ths(self.p)
        if not self.training or dropped == 0:
            return x
        return thinned(x, kept_at_random(x.shape, dropped, x.device), dropped)

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
