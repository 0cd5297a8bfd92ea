"""Numbers that can be computed again, kept because computing them takes longer than fetching them."""

from foreword.caching.disk import DiskStore
from foreword.caching.memory import MemoryStore
from foreword.caching.sizes import in_words, size_in_bytes
from foreword.caching.store import BUDGET, Place, Store, open_store

__all__ = ["BUDGET", "DiskStore", "MemoryStore", "Place", "Store", "in_words", "open_store", "size_in_bytes"]
