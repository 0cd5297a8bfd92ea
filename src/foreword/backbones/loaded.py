"""What the files of this room may know of a `Backbone` while they help to make one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from foreword.backbones.call import PrefixCall
from foreword.backbones.families import Kind
from foreword.backbones.fingerprint import BackboneIdentity
from foreword.injection import Injection


class Loaded(Protocol):
    """A loaded model and what is known of it."""

    name: str
    family: str
    kind: Kind
    language_model: bool
    max_length: int
    model: Any

    @property
    def trunk(self) -> Any:
        """The part of ``model`` that reads text."""

    @property
    def identity(self) -> BackboneIdentity:
        """What its numbers are known by."""

    @property
    def hidden_size(self) -> int:
        """D."""

    @property
    def depth(self) -> int:
        """N."""

    @property
    def layer_numbers(self) -> Mapping[nn.Module, int]:
        """Layers of the first stack, and the number of each."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""

    @property
    def accepts(self) -> frozenset[str]:
        """Names of what the trunk can be given."""

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings ``(..., W)`` of token ids."""

    def check_length(self, positions: int) -> None:
        """Refuse rows that take more positions than there are."""

    def prefix_call(self, injection: Injection | None, **places: Any) -> PrefixCall:
        """What the attention layers of one forward pass are to know."""

    def evaluating(self) -> AbstractContextManager[None]:
        """No dropout and no recomputing while it lasts."""
