"""One vector per token, read beside those of a marked stretch: roles of a predicate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foreword.heads.base import Head


class MarkedTokenHead(Head):
    """Tags of tokens as seen from the marked stretch of their row.

    ``logits_i = U tanh(A h_i + B m)`` with the mean ``m`` of the hidden states in stretch 1, or 0 where a row has
    none. Without the tanh, what the stretch says would be the same for all tokens of a row.

    Args:
        hidden_size: D.
        outputs: C.
        width: of the tanh layer.
        dropout: of the hidden states, and before the last layer.
    """

    def __init__(self, hidden_size: int, outputs: int, *, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.token = nn.Linear(hidden_size, width)
        self.marked = nn.Linear(hidden_size, width, bias=False)
        self.linear = nn.Linear(width, outputs)

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """``(B, T, C)``; the lowest number at padding."""
        seen = self.token(self.dropout(hidden))
        if marks is not None:
            stretch = (marks == 1).to(hidden.dtype)[:, :, None]
            mean = (hidden * stretch).sum(1, keepdim=True) / stretch.sum(1, keepdim=True).clamp(min=1)
            seen = seen + self.marked(self.dropout(mean))
        logits: Tensor = self.linear(self.dropout(torch.tanh(seen)))
        return logits.masked_fill(mask[:, :, None] == 0, torch.finfo(logits.dtype).min)
