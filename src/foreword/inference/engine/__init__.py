"""Many tasks on one frozen model, each row of a batch with the prompt of its own task."""

from foreword.inference.engine.engine import Engine
from foreword.inference.engine.evaluation import Evaluated
from foreword.inference.engine.handles import Handle, Member, Vote
from foreword.inference.engine.jobs import Job
from foreword.inference.engine.residents import Stats

__all__ = ["Engine", "Evaluated", "Handle", "Job", "Member", "Stats", "Vote"]
