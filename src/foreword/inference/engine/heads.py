"""Heads of one make answer together: their weights are stacked, so a batch of many tasks takes no loop over them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from foreword.heads import Head, Reads

_FEW = 2
"""So many heads are no loop worth avoiding."""
_MOST_NUMBERS = 1 << 16
"""Heads with more are not copied into a stack: that would take longer than to ask one after the other."""


def make_of(head: Head) -> Hashable:
    """Equal for heads that differ in nothing but their numbers."""
    settings = sorted((name, str(value)) for name, value in vars(head).items() if not name.startswith("_"))
    shapes = [(name, tuple(tensor.shape), tensor.dtype) for name, tensor in _tensors(head).items()]
    return type(head), tuple(settings), tuple(shapes)


def worth_stacking(heads: Sequence[Head]) -> bool:
    """Whether heads of one make, each given once, are asked together."""
    numbers = sum(tensor.numel() for tensor in _tensors(heads[0]).values())
    return heads[0].stackable and len(heads) > _FEW and 0 < numbers <= _MOST_NUMBERS


class Stack(Head):
    """Heads of one make as one, which asks for every row its own.

    Args:
        heads: one per row.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        self.every_layer, self.class_axis = heads[0].every_layer, heads[0].class_axis
        self._first = [heads[0]]  # in a list, so that it is no part of this module
        own = [_tensors(head) for head in heads]
        self._stacked = {name: torch.stack([tensors[name] for tensors in own]) for name in own[0]}

    @property
    def reads(self) -> Reads:  # type: ignore[override]
        """What all of them read."""
        return self._first[0].reads

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Those of the first, which tell the type that all are in."""
        return self._first[0].parameters(recurse)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """Logits of every row from its own head; arguments as of any head."""
        (first,) = self._first

        def one(tensors: dict[str, Tensor], *inputs: Tensor) -> Tensor:
            out: Tensor = functional_call(first, tensors, tuple(part[None] for part in inputs))
            return out[0]

        inputs = (hidden, mask) if marks is None else (hidden, mask, marks)
        answers: Tensor = vmap(one)(self._stacked, *inputs)
        return answers


def _tensors(head: Head) -> dict[str, Tensor]:
    return {**dict(head.named_parameters()), **dict(head.named_buffers())}
