"""Heads: hidden states of text positions to logits."""

from foreword.heads.base import Head
from foreword.heads.pooled import PooledHead, Pooling
from foreword.heads.token import TokenHead

__all__ = ["Head", "PooledHead", "Pooling", "TokenHead"]
