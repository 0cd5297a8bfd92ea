"""Tensors in the memory of this process."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import torch
from torch import Tensor


class MemoryStore:
    """Tensors by key, up to a number of bytes. Every method may be called from any thread.

    Those that were not used longest leave first, but none that the run in progress has used: a run goes through its
    texts again and again, and if each pushed out the one before it, none would be there when its turn comes.

    Args:
        budget: most bytes.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: OrderedDict[bytes, tuple[Tensor, int]] = OrderedDict()  # and the last run that used it
        self._bytes = self._run = 0
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Taken by what is kept."""
        return self._bytes

    def begin(self) -> None:
        """A new run begins: what only others have used may leave."""
        with self._lock:
            self._run += 1

    def get(self, key: bytes, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """What was put under ``key``, if it is still there; shape and type are those of what is expected."""
        del shape, dtype  # the key says as much
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                return None
            self._kept[key] = (found[0], self._run)
            return found[0]

    def put(self, key: bytes, tensor: Tensor) -> None:
        """Keep a tensor that nobody will write to, if there is room or can be made."""
        with self._lock:
            if key in self._kept:
                return
            while self._kept and self._bytes + tensor.nbytes > self.budget:
                oldest, (gone, run) = next(iter(self._kept.items()))
                if run == self._run:
                    return
                del self._kept[oldest]
                self._bytes -= gone.nbytes
            if self._bytes + tensor.nbytes <= self.budget:
                self._kept[key] = (tensor, self._run)
                self._bytes += tensor.nbytes
