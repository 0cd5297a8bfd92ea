"""From the numbers of a job's rows, or the text that was written, to its answer; what goes wrong is its own matter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foreword.errors import EngineError, ForewordError
from foreword.inference.engine.ensembles import vote_of
from foreword.inference.engine.jobs import Job, Part
from foreword.tasks import WritingTask, Written

Logits = Sequence[Tensor]
"""Of the rows of one part."""


def answer_of(job: Job, logits: Sequence[Logits], texts: Sequence[Written | None]) -> dict[str, Any] | ForewordError:
    """The answer to one job, or why there is none.

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
            return _told_of(job, job.parts[0], predictions[0])
        prediction, agreement = vote_of(job.handle, job.parts, logits, predictions)
        members = [
            {"task": part.member.task, "version": part.member.version, "digest": part.member.digest}
            | {"answer": _told_of(job, part, own)}
            for part, own in zip(job.parts, predictions, strict=True)
        ]
        return {**_told_of(job, job.parts[0], prediction), "agreement": agreement, "members": members}
    except Exception as error:
        return told(job, error)


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
