"""What the files of this room may know of a `Backbone` while they help to make one."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from foreword.backbones.families import Kind


class Loaded(Protocol):
    """A loaded model and what is known of it."""

    name: str
    family: str
    kind: Kind
    language_model: bool
    model: Any

    @property
    def trunk(self) -> Any:
        """The part of ``model`` that reads text."""

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
