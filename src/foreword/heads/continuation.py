"""The vocabulary head of a language model itself, for tasks whose answers are written."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from foreword.heads.base import Head, Reads


class ContinuationHead(Head):
    """What the language model thinks of every token of a text that is given. Nothing is trained."""

    reads: ClassVar[Reads] = "continuation"

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, U, V)``, as they are."""
        del mask, marks
        return hidden
