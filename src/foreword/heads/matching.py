"""The two ends of an answer, from each token's states and from how near it stands to words like the question's.

A model whose text attends to itself as it did before hardly learns to compare a context with a question. Sentence
encoders compare well by the angle between states, so the head is told the angles.
Source: Chen et al. 2017 (DrQA), section 3.2, whose reader is told of each word of the context whether it stands in the
question, and what in the question is like it. Here states of every layer tell, and the words around it count as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, normalize

from foreword.heads.base import Head

_AROUND = (1, 9, 31)
"""Tokens over which likeness is averaged, the token itself in the middle."""
_WIDTH = 32
"""Of the network that reads likenesses."""


class MatchingHead(Head):
    """A linear layer on every token, and a small network on its likeness to the marked tokens, which are the question.

    ``logits_i = W h_i + U gelu(V m_i)``. For a state s of token i, ``m_i`` holds the largest cosine to that state of a
    marked token, on the scale of its row (mean 0 and variance 1 over the tokens that are not marked), and its means
    over the 9 and 31 tokens around i that are real and not marked. No gradient goes through it.

    Args:
        hidden_size: D.
        outputs: C.
        dropout: of the hidden states that the linear layer reads, and of the likenesses.
        states: S, hidden states per position, as of `PooledHead`.
    """

    class_axis = 1
    stackable = False

    def __init__(self, hidden_size: int, outputs: int, *, dropout: float, states: int = 1) -> None:
        super().__init__()
        self.every_layer = states > 1
        self.states = states
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(states * hidden_size, outputs)
        self.matching = nn.Linear(len(_AROUND) * states, _WIDTH)
        self.out = nn.Linear(_WIDTH, outputs, bias=False)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, T, C)``; the lowest number at padding. In a row without marked tokens nothing is like them.

        Raises:
            TypeError: there are no marks.
        """
        if marks is None:
            raise TypeError("MatchingHead compares with marked tokens, and these rows have none")
        logits: Tensor = self.linear(self.dropout(hidden))
        with torch.autocast(hidden.device.type, enabled=False):
            likeness = self.likeness(hidden, mask, marks).to(self.out.weight.dtype)
            logits = logits + self.out(nn.functional.gelu(self.matching(self.dropout(likeness))))
        return logits.masked_fill(mask[:, :, None] == 0, torch.finfo(logits.dtype).min)

    @torch.no_grad()
    def likeness(self, hidden: Tensor, mask: Tensor, marks: Tensor) -> Tensor:
        """``(B, T, 3 S)``, what the network reads, in float32 or better; 0 where a token is marked or padding.

        Args:
            hidden: ``(B, T, S D)``.
            mask: ``(B, T)``, nonzero for real tokens.
            marks: ``(B, T)``, 1 for tokens of the question.
        """
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        asked = marks == 1
        question, surplus = _gathered(wide, asked)
        pairs = zip(wide.chunk(self.states, -1), question.chunk(self.states, -1), strict=True)
        nearest = torch.stack([_nearest(*pair, surplus) for pair in pairs], dim=1)  # (B, S, T)
        counted = ((mask != 0) & ~asked)[:, None].to(nearest.dtype)  # (B, 1, T)
        scaled = _scaled(nearest, counted)
        return torch.cat([_around(scaled, counted, size) for size in _AROUND], dim=1).transpose(1, 2)


def _gathered(vectors: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """Those of the vectors ``(B, T, D)`` that are asked, ``(B, Q, D)``, and which of them only fill up, ``(B, Q)``."""
    counts = asked.sum(1, keepdim=True)
    longest = max(int(counts.max()), 1)
    places = asked.int().argsort(dim=1, descending=True, stable=True)[:, :longest]  # those asked stand in front
    rows = torch.arange(len(places), device=places.device)[:, None]
    return vectors[rows, places], torch.arange(longest, device=counts.device) >= counts


def _nearest(vectors: Tensor, question: Tensor, surplus: Tensor) -> Tensor:
    """The largest cosine ``(B, T)`` of each vector ``(B, T, D)`` to one ``(B, Q, D)`` that is no surplus; or -1."""
    lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True).clamp(min=1e-12)
    cosines = vectors @ normalize(question, dim=-1).transpose(1, 2) / lengths  # (B, T, Q)
    nearest: Tensor = cosines.masked_fill(surplus[:, None], -1).amax(-1)
    return nearest


def _scaled(values: Tensor, counted: Tensor) -> Tensor:
    """Values ``(B, S, T)`` with mean 0 and variance 1 over the tokens that count, 0 elsewhere."""
    total = counted.sum(-1, keepdim=True).clamp(min=1)
    centred = (values - (values * counted).sum(-1, keepdim=True) / total) * counted
    return centred / (centred.square().sum(-1, keepdim=True) / total + 1e-6).sqrt()


def _around(values: Tensor, counted: Tensor, size: int) -> Tensor:
    """Means ``(B, S, T)`` over the tokens that count among ``size`` neighbours; 0 where a token does not count."""
    sums, counts = (avg_pool1d(part, size, 1, size // 2) for part in (values, counted))
    return sums / counts.clamp(min=1 / (2 * size)) * counted
