"""The self-test: a server is ready once a task has answered, alone and beside others, and both times the same."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from typing import Any

import torch

from foreword.errors import ForewordError
from foreword.inference.engine import Engine, Job
from foreword.serving.scheduling import Busy
from foreword.serving.service import Service

_BESIDE = 4
"""Tasks that are asked together."""
_TRIED = 32
"""Tasks that are tried until one answers."""
_CLOSE = 1e-3
"""How far probabilities may be apart that were computed in different batches."""
_AGAIN = 1.0
"""Seconds until it is tried again."""
log = logging.getLogger(__name__)


async def keep_testing(service: Service) -> None:
    """Test until it succeeds."""
    while not service.ready:
        service.ready, service.why, service.tested = await _test(service)
        if not service.ready:
            log.warning("not ready", extra={"facts": {"reason": service.why}})
            await asyncio.sleep(_AGAIN)


async def _test(service: Service) -> tuple[bool, str, str | None]:
    """Whether it is ready, why not, and the task that answered."""
    names = service.registry.names()
    jobs = [job for name in names[:_TRIED] if (job := await _job(service, name)) is not None][:_BESIDE]
    if not names:
        return True, "ready; there is no task yet", None
    if not jobs:
        return False, "no task can be loaded", None
    try:
        (alone,) = await _answers(service, jobs[:1])
        beside, *_ = await _answers(service, jobs)
    except (Busy, TimeoutError):
        return False, "the self-test was not answered in time", None
    # In half precision answers of another batch may differ by as much as a fault makes: then finite ones are enough.
    pairs = ((alone, beside),) if _is_precise(service.engine) else ((alone, alone), (beside, beside))
    if isinstance(alone, Exception) or isinstance(beside, Exception) or not all(alike(*pair) for pair in pairs):
        return False, "the self-test failed", None
    return True, "ready", jobs[0].handle.task


async def _job(service: Service, name: str) -> Job | None:
    def make() -> Job | None:
        try:
            handle = service.engine.resolve(name)
            member = handle.members[0]
            example = service.catalogue.describe(member.digest, member.manifest.task).example
            return service.engine.encode(handle, example)
        except ForewordError:
            return None  # that task tells those who ask it; the others are served
        except Exception as error:  # whatever it is, the server is not to wait for this task for ever
            log.warning("a task cannot be tested", exc_info=error)
            return None

    return await service.batcher.aside(make)


async def _answers(service: Service, jobs: Sequence[Job]) -> list[dict[str, Any] | Exception]:
    seconds = service.settings.timeout
    group, _ = service.batcher.submit(jobs, time.monotonic() + seconds)
    await asyncio.wait_for(group.done, seconds)
    return [outcome.answer for outcome in group.outcomes if outcome is not None]


def _is_precise(engine: Engine) -> bool:
    return not engine.bf16 and engine.backbone.model.dtype in (torch.float32, torch.float64)


def alike(one: Any, other: Any) -> bool:
    """Whether two answers are the same up to rounding, and finite."""
    match one, other:
        case (dict(), dict()):
            return one.keys() == other.keys() and all(alike(value, other[name]) for name, value in one.items())
        case (list() | tuple(), list() | tuple()):
            return len(one) == len(other) and all(map(alike, one, other))
        case (float(), float()):
            return math.isfinite(one) and math.isclose(one, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
    return bool(one == other)
