"""Heads that read marked stretches: beside the pooled text, or beside every token.

Source of the first: the BERT baselines of Wang et al. 2019 (SuperGLUE): for WiC the representation of the marked word
is put beside that of [CLS]. For WSC theirs pools both spans by attention; here it is their mean, beside the text, as
for WiC. The second is that of Shi and Lin 2019 for roles of a predicate; that it reads what stands between as well is
the path from predicate to argument of Gildea and Jurafsky 2002, section 4.2, without a parser: the words on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foreword.heads.base import Head
from foreword.heads.pooled import Pooling, mean, perceptron, pool


class MarkedHead(Head):
    """A linear layer, or one behind a tanh layer, on the pooled text and the mean of every marked stretch.

    Args:
        hidden_size: D.
        labels: C.
        stretches: how many every row has; their numbers in ``marks`` count from 1.
        pooling, hidden_layer, dropout, states: as of `PooledHead`.
    """

    def __init__(
        self,
        hidden_size: int,
        labels: int,
        *,
        stretches: int,
        pooling: Pooling,
        hidden_layer: bool,
        dropout: float,
        states: int = 1,
    ) -> None:
        super().__init__()
        self.every_layer = states > 1
        self.stretches, self.pooling = stretches, pooling
        width = (1 + stretches) * states * hidden_size
        self.layers = perceptron(width, hidden_size, labels, hidden_layer=hidden_layer, dropout=dropout)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, C)``; ``marks`` holds every stretch in every row."""
        if marks is None:
            raise TypeError("MarkedHead reads marked stretches, and these rows have none")
        means = [mean(hidden, marks == number) for number in range(1, self.stretches + 1)]
        logits: Tensor = self.layers(torch.cat([pool(hidden, mask, self.pooling), *means], dim=-1))
        return logits


class MarkedTokenHead(Head):
    """Tags of tokens as seen from the marked stretch of their row.

    ``logits_i = U tanh(A h_i + B m + C b_i)`` with the mean ``m`` of the hidden states in stretch 1, or 0 where a row
    has none, and the mean ``b_i`` of those between token i and that stretch (`mean_between`). Without the tanh, what
    the stretch says would be the same for all tokens of a row. C is a product of two matrices, of rank ``between``.

    Args:
        hidden_size: D.
        outputs: C.
        width: of the tanh layer.
        dropout: of the hidden states, and before the last layer.
        states: hidden states per position, as of `PooledHead`.
        between: rank of what is read of the states between; 0 leaves them out.
    """

    def __init__(
        self, hidden_size: int, outputs: int, *, width: int, dropout: float, states: int = 1, between: int = 0
    ) -> None:
        super().__init__()
        self.every_layer = states > 1
        self.dropout = nn.Dropout(dropout)
        self.token = nn.Linear(states * hidden_size, width)
        self.marked = nn.Linear(states * hidden_size, width, bias=False)
        self.between = nn.Linear(states * hidden_size, between, bias=False) if between else None
        self.path = nn.Linear(between, width, bias=False) if between else None
        self.linear = nn.Linear(width, outputs)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, T, C)``; the lowest number at padding."""
        dropped = self.dropout(hidden)
        seen = self.token(dropped)
        if marks is not None:
            stretch = mean(hidden, marks == 1)[:, None]
            seen = seen + self.marked(self.dropout(stretch))
            if self.between is not None and self.path is not None:
                seen = seen + self.path(mean_between(self.between(dropped), marks == 1))
        logits: Tensor = self.linear(self.dropout(torch.tanh(seen)))
        return logits.masked_fill(mask[:, :, None] == 0, torch.finfo(logits.dtype).min)


def mean_between(vectors: Tensor, marked: Tensor) -> Tensor:
    """For each position the mean of the vectors strictly between it and what is marked.

    Args:
        vectors: ``(B, T, R)``.
        marked: ``(B, T)`` bool.

    Returns:
        ``(B, T, R)``; 0 next to the first and the last marked position, from one to the other, and in rows without any.
    """
    count = marked.shape[1]
    places = torch.arange(count, device=marked.device)
    first = marked.int().argmax(1, keepdim=True)
    last = count - 1 - marked.flip(1).int().argmax(1, keepdim=True)
    start = torch.where(places < first, places + 1, last + 1)  # (B, T), of the stretch [start, stop)
    stop = torch.where(places < first, first, places).maximum(start) * marked.any(1, keepdim=True)
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    sums = nn.functional.pad(wide.cumsum(1), (0, 0, 1, 0))  # (B, T + 1, R): of all vectors before a position
    start = start.minimum(stop)
    ends = [sums.take_along_dim(place[:, :, None], dim=1) for place in (start, stop)]
    return ((ends[1] - ends[0]) / (stop - start).clamp(min=1)[:, :, None]).to(vectors.dtype)
