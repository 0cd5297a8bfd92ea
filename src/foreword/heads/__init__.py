"""Heads: hidden states of text positions to logits."""

from foreword.heads.base import Head, Reads, Vocabulary
from foreword.heads.continuation import ContinuationHead
from foreword.heads.marked import MarkedHead, MarkedTokenHead
from foreword.heads.matching import MatchingHead
from foreword.heads.pooled import PooledHead, Pooling
from foreword.heads.token import TokenHead
from foreword.heads.verbalizer import LearnedVerbalizerHead, VerbalizerHead, class_vectors

__all__ = [
    "ContinuationHead",
    "Head",
    "LearnedVerbalizerHead",
    "MarkedHead",
    "MarkedTokenHead",
    "MatchingHead",
    "PooledHead",
    "Pooling",
    "Reads",
    "TokenHead",
    "VerbalizerHead",
    "Vocabulary",
    "class_vectors",
]
