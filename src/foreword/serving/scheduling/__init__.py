"""Whose turn it is: waiting inputs, batches, and the one thread that runs them."""

from foreword.serving.scheduling.batcher import Batcher, Busy
from foreword.serving.scheduling.waiting import Waiting
from foreword.serving.scheduling.work import Expired, Outcome, Work

__all__ = ["Batcher", "Busy", "Expired", "Outcome", "Waiting", "Work"]
