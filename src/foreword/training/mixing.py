"""How often each of several tasks is trained on: the recipe's ``[mixing]`` table.

Source: Raffel et al. 2020, section 3.5.2 (examples-proportional mixing with a limit, temperature, equal mixing).
There tasks are drawn at random; here every epoch has each task's share exactly, and only their order is random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_serializer


class Mixing(BaseModel):
    """Settings of how several tasks share a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    temperature: float = Field(default=1.0, ge=1)
    """Tasks share the steps by size^(1/temperature): 1 by size, inf all alike, between them small ones gain."""
    cap: PositiveInt | None = None
    """Count no data set as more than so many training rows."""

    @field_serializer("temperature", when_used="json")
    def _plain(self, value: float) -> float | str:
        return "inf" if math.isinf(value) else value  # JSON has no word for it


def shares(sizes: Sequence[int], temperature: float) -> list[int]:
    """How many of an epoch's steps each task gets, in proportion to ``size ** (1 / temperature)``.

    The epoch has as many steps as all sizes together, divided by largest remainders. Every task gets one at least.

    Args:
        sizes: steps of one pass over each task's data.
        temperature: 1 gives every task its one pass.
    """
    weights = [size ** (1 / temperature) for size in sizes]
    exact = [sum(sizes) * weight / sum(weights) for weight in weights]
    counts = [math.floor(share) for share in exact]
    by_remainder = sorted(range(len(sizes)), key=lambda i: counts[i] - exact[i])
    for i in by_remainder[: sum(sizes) - sum(counts)]:
        counts[i] += 1
    return [max(1, count) for count in counts]
