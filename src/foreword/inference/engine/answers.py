"""From the numbers of a job's rows, or the text that was written, to its answer; what goes wrong is its own matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from foreword.errors import EngineError, ForewordError
from foreword.inference.engine.ensembles import vote_of
from foreword.inference.engine.jobs import Job, Part
from foreword.tasks import WritingTask, Written

Logits = Sequence[Tensor]
"""Of the rows of one part."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a job comes to.

    Attributes:
        prediction: of its task.
        members: predictions of its members, in order; of one that is no ensemble, that same prediction.
        agreement: share of members whose own prediction is the ensemble's, in [0, 1].
    """

    prediction: Any
    members: tuple[Any, ...]
    agreement: float = 1.0


def verdict_of(job: Job, logits: Sequence[Logits], texts: Sequence[Written | None]) -> Verdict | ForewordError:
    """What a job comes to, or why it comes to nothing.

    Args:
        job: whose rows were run.
        logits: per part; none where the answer is written.
        texts: per part, what was written.
    """
    if not all(bool(torch.isfinite(row).all()) for rows in logits for row in rows):
        return EngineError(f"{job.handle.task}: the model's numbers for this input are not finite")
    try:
        predictions = [_prediction(*one) for one in zip(job.parts, logits, texts, strict=True)]
        if job.handle.vote is None:
            return Verdict(predictions[0], tuple(predictions))
        prediction, agreement = vote_of(job.handle, job.parts, logits, predictions)
        return Verdict(prediction, tuple(predictions), agreement)
    except Exception as error:
        return told(job, error)


def answer_of(job: Job, verdict: Verdict | ForewordError) -> dict[str, Any] | ForewordError:
    """The answer to one job, or why there is none."""
    if isinstance(verdict, ForewordError):
        return verdict
    try:
        answer = _told_of(job, job.parts[0], verdict.prediction)
        beside = {} if job.handle.vote is None else _beside(job, verdict)
    except Exception as error:
        return told(job, error)
    return {**answer, **beside}


def _beside(job: Job, verdict: Verdict) -> dict[str, Any]:
    """How far the members of an ensemble agree, and what each of them says."""
    members = [
        {"task": part.member.task, "version": part.member.version, "digest": part.member.digest}
        | {"answer": _told_of(job, part, own)}
        for part, own in zip(job.parts, verdict.members, strict=True)
    ]
    return {"agreement": verdict.agreement, "members": members}


def told(job: Job, error: Exception) -> ForewordError:
    """An error as one of ours, with nothing of the input in it."""
    if isinstance(error, ForewordError):
        return error
    ours = EngineError(f"{job.handle.task}: no answer could be made of this input ({type(error).__name__})")
    ours.__cause__ = error
    return ours


def _prediction(part: Part, logits: Logits, text: Written | None) -> Any:
    task = part.resident.task
    prediction = task.decode(part.example, part.rows, logits)
    if isinstance(task, WritingTask):
        assert text is not None
        return task.with_text(part.example, prediction, text)
    return prediction


def _told_of(job: Job, part: Part, prediction: Any) -> dict[str, Any]:
    return part.resident.task.told(part.example, prediction, job.candidates)
