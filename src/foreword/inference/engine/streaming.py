"""Any number of jobs, in blocks that fit into memory and batches of similar lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from foreword.data.batching import sorted_batches
from foreword.inference.engine.jobs import Job
from foreword.inference.engine.residents import Resident

AnswerT = TypeVar("AnswerT")
_MOST_JOBS = 1024
"""Of a block; enough for batches of similar lengths."""


def in_blocks(jobs: Iterable[Job], budget: int | None) -> Iterator[list[Job]]:
    """Cut jobs into blocks whose prompts and heads take no more than half of a budget, or are one job's.

    Jobs hold what their answers need, so a block that held more would keep the budget from being kept.
    """
    block, held, size = list[Job](), set[Resident](), 0
    for job in jobs:
        block.append(job)
        fresh = {part.resident for part in job.parts} - held
        held |= fresh
        size += sum(resident.bytes for resident in fresh)
        if len(block) == _MOST_JOBS or (budget is not None and size > budget // 2):
            yield block
            block, held, size = [], set(), 0
    if block:
        yield block


def in_batches(
    run: Callable[[Sequence[Job]], Sequence[AnswerT]], jobs: Sequence[Job], batch_size: int, most_tokens: int
) -> list[AnswerT]:
    """What ``run`` answers to each job, in order, from batches of jobs of similar lengths.

    Args:
        run: one pass.
        jobs: any number of them.
        batch_size: most rows of a batch.
        most_tokens: most positions of a batch, padding included; a job that takes more is a batch.
    """
    found: dict[int, AnswerT] = {}
    lengths, rows = [job.longest for job in jobs], [job.rows for job in jobs]
    for numbers in sorted_batches(lengths, batch_size, most_tokens=most_tokens, rows=rows):
        found.update(zip(numbers, run([jobs[i] for i in numbers]), strict=True))
    return [found[i] for i in range(len(jobs))]
