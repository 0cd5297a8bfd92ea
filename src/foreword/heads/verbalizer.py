"""Words of the vocabulary as classes: what a language model says where one word answers.

Sources: Liu et al. 2022 (P-Tuning v2), table 4, for the language model's own head against a class
head; Hambardzumyan et al. 2021 (WARP), section 3, for learned embeddings of the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from foreword.heads.base import Head, Reads


class VerbalizerHead(Head):
    """The language model's logits of one word per class. Nothing is trained.

    Args:
        words: C token ids, in the order of the labels.
    """

    reads: ClassVar[Reads] = "vocabulary"

    def __init__(self, words: Sequence[int]) -> None:
        super().__init__()
        self.words: Tensor
        self.register_buffer("words", torch.tensor(words), persistent=False)  # settings and tokenizer tell them

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, C)`` from logits over the vocabulary ``(B, V)``."""
        del mask, marks
        return hidden[:, self.words]


class LearnedVerbalizerHead(Head):
    """One trained vector per class, in the space of the output embeddings.

    Args:
        start: ``(C, W)``, such as the output embeddings of words.
        dropout: of what is read.
    """

    reads: ClassVar[Reads] = "features"

    def __init__(self, start: Tensor, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Parameter(start.detach().float().clone())

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, C)`` from what the output embeddings read ``(B, W)``."""
        del mask, marks
        logits: Tensor = self.dropout(hidden) @ self.classes.T
        return logits


def class_vectors(words: Sequence[int | None], embeddings: Tensor) -> Tensor:
    """Where a learned verbalizer starts, ``(C, W)``: at words, or at random vectors of the size that words have.

    Args:
        words: one token id per class, or None for a random vector from torch's global generator.
        embeddings: ``(V, W)``, the output embeddings.
    """
    rows = embeddings.detach()
    start = torch.randn(len(words), rows.shape[1]) * rows.std().item()
    for vector, word in zip(start, words, strict=True):
        if word is not None:
            vector.copy_(rows[word])
    return start
