"""Logits of a model that knows the answers, for tests of what comes behind a model."""

from __future__ import annotations

import torch
from torch import Tensor

from foreword.data.batching import IGNORED, Encoded


def perfect_tag_logits(row: Encoded, tags: int, generator: torch.Generator) -> Tensor:
    """``(T, C)``: sure of the gold one of C tags where it counts, and of anything at all elsewhere."""
    logits = 20 * torch.randn(len(row), tags, generator=generator)
    for token, tag in enumerate(row.targets["tags"]):
        if tag != IGNORED:
            logits[token] = 0
            logits[token, tag] = 30
    return logits
