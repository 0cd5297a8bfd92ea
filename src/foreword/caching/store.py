"""Where computed numbers are kept: one place in memory per process, one on disk per user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from foreword.caching.disk import DiskStore
from foreword.caching.memory import MemoryStore

Place = Literal["memory", "disk"]

FOLDER = "FOREWORD_CACHE"
"""Environment variable that names the folder on disk, where it is not the user's usual one."""

BUDGET = 2 * 10**9
"""Bytes of a store of which nobody said how large it may be."""

_IN_MEMORY = MemoryStore(0)


class Store(Protocol):
    """Keeps tensors that can be computed again. It may lose any of them at any time, but gives no other."""

    budget: int

    @property
    def size(self) -> int:
        """Taken by what is kept."""

    def begin(self) -> None:
        """A new run begins: what only others have used may leave."""

    def get(self, key: bytes, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """What was put under ``key``, on the CPU, if it is still there; shape and type are those expected of it."""

    def put(self, key: bytes, tensor: Tensor) -> None:
        """Keep a tensor on the CPU, if there is room or can be made."""


def open_store(place: Place, budget: int) -> Store:
    """The store of this process or of this user. Whoever opens it last says how large it may be.

    Args:
        place: "memory" or "disk".
        budget: most bytes.
    """
    if place == "disk":
        return DiskStore(cache_folder() / "trunk", budget)
    _IN_MEMORY.budget = budget
    return _IN_MEMORY


def cache_folder() -> Path:
    """The user's folder for what may be deleted."""
    named = os.environ.get(FOLDER)
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "foreword"
