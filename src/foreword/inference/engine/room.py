"""How large a pass may be: learned from those that there was too little memory for."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_PATIENCE = 600
"""Seconds after which twice as much is tried."""


class Room:
    """Positions, padding included, of a pass that there is memory for: any number of them until a pass fails.

    Of what failed half is allowed from then on. So the limit is never below half of what fits, and no more passes
    fail than it takes to get there by halving. What took the memory may be another program that ends, so every ten
    minutes without a failure twice as much is tried; where nothing has changed, one pass in ten minutes is in vain.

    Args:
        clock: seconds that pass.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._limit: tuple[int, float] | None = None
        self.failures = 0
        """Passes that there was too little memory for."""

    @property
    def most(self) -> int | None:
        """Positions of the largest pass to try now; None without a limit."""
        if self._limit is None:
            return None
        positions, since = self._limit
        return positions << int((self._clock() - since) / _PATIENCE)

    def failed(self, positions: int) -> None:
        """A pass of so many ran out of memory."""
        self.failures += 1
        half, most = max(positions // 2, 1), self.most
        if most is None or half < most:  # not so where one input takes more than a pass may, which is tried alone
            self._limit = half, self._clock()


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device, or this machine, has too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
