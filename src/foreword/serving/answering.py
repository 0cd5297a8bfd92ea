"""From inputs to results: resolve once, encode aside, wait for a turn, and say what answered."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from foreword.errors import ForewordError, RegistryError, TaskError
from foreword.inference.engine import Handle, Job
from foreword.serving.front import busy_problem
from foreword.serving.keys import Caller
from foreword.serving.problems import Problem, deadline, problem_of, unknown_task
from foreword.serving.scheduling import Busy, Expired, Outcome
from foreword.serving.schemas import Ensemble, Options
from foreword.serving.service import Service

_SIGN = re.compile("[:@]")
"""What stands behind the name in a reference."""
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ask:
    """One input for one task.

    Attributes:
        input: its number in the request.
        record: its fields.
        handle: what is to answer, from the moment of admission to the end.
        job: its rows.
        answer: what was answered; or `problem`, if nothing.
    """

    input: int
    record: dict[str, Any]
    handle: Handle | None = None
    job: Job | None = None
    answer: dict[str, Any] | None = None
    problem: Problem | None = None

    @classmethod
    def of(cls, number: int, record: dict[str, Any], found: Handle | Problem) -> Ask:
        """An input, and what its reference led to."""
        if isinstance(found, Problem):
            return cls(number, record, problem=found)
        return cls(number, record, found)


@dataclass(slots=True)
class Timing:
    """Seconds that the slowest input waited and computed, and the batch it was in."""

    queue: float = 0.0
    forward: float = 0.0
    rows: int = 0
    tasks: int = 0

    def take(self, outcome: Outcome) -> None:
        """Take in one input."""
        self.queue = max(self.queue, outcome.waited)
        if outcome.rows:
            self.forward = max(self.forward, outcome.forward)
            self.rows, self.tasks = outcome.rows, outcome.tasks


@dataclass
class Resolver:
    """References of one request, each looked up once, as far as the caller may know of them."""

    service: Service
    caller: Caller
    _found: dict[str, Handle | Problem] = field(default_factory=dict)

    def handle(self, reference: str) -> Handle | Problem:
        """What a reference means now, or that there is no such thing."""
        if reference not in self._found:
            self._found[reference] = self._resolve([reference], "task", None)
        return self._found[reference]

    def ensemble(self, ensemble: Ensemble) -> Handle | Problem:
        """Several references that answer together."""
        return self._resolve(ensemble.members, "ensemble.members", ensemble.vote)

    def _resolve(self, references: Sequence[str], where: str, vote: Any) -> Handle | Problem:
        engine = self.service.engine
        try:
            if vote is None:
                handle = engine.resolve(references[0])
            else:
                singles = [engine.resolve(reference) for reference in references]
                if not all(self._may_ask(single) for single in singles):
                    return unknown_task(where)
                handle = engine.ensemble(references, vote)
        except RegistryError as error:
            known = all(self.caller.may_ask(_SIGN.split(reference)[0]) for reference in references)
            return problem_of(error, {}) if known else unknown_task(where)
        except TaskError:
            return Problem(
                "request.malformed",
                "An ensemble's members need one kind of task and the same labels",
                field="ensemble",
            )
        return handle if self._may_ask(handle) else unknown_task(where)

    def _may_ask(self, handle: Handle) -> bool:
        return all(self.caller.may_ask(member.task) for member in handle.members)


async def answer(service: Service, asks: Sequence[Ask], options: Options, receive: Receive) -> Timing:
    """Fill in answers and problems.

    Args:
        service: the app.
        asks: with their handles, or with the problem that there is none.
        options: of the request.
        receive: tells when the client is gone.

    Raises:
        Problem: there is no room.
        ClientDisconnect: nobody waits for the answer any more.
    """
    seconds = service.settings.timeout if options.timeout_ms is None else options.timeout_ms / 1000
    until, timing = time.monotonic() + seconds, Timing()
    live = [ask for ask in asks if ask.problem is None]
    try:
        with _room(service, len(live), until):
            await service.batcher.aside(lambda: _encode(service, live, options, until))
            live = [ask for ask in live if ask.job is not None]
            if live:
                await _compute(service, live, until, receive, timing)
    except Busy as busy:
        raise busy_problem(service, busy.reason, busy.retry_after) from None
    for ask in asks:
        task = None if ask.handle is None else ask.handle.task
        service.metrics.result(task, "ok" if ask.problem is None else ask.problem.code)
    return timing


@contextmanager
def _room(service: Service, inputs: int, until: float) -> Iterator[None]:
    service.batcher.admit(inputs, until)
    try:
        yield
    finally:
        service.batcher.release(inputs)


def _encode(service: Service, asks: Sequence[Ask], options: Options, until: float) -> None:
    """Load what is needed and make rows, as long as somebody waits for them; runs aside."""
    settings = service.settings
    for ask in asks:
        assert ask.handle is not None
        if time.monotonic() >= until:
            ask.problem = deadline()
            continue
        try:
            _bound(_characters(ask.record), settings.max_text, "characters")
            job = service.engine.encode(
                ask.handle,
                ask.record,
                truncate=options.truncate,
                number=ask.input,
                candidates=options.candidates,
            )
            _bound(job.tokens, settings.max_tokens, "tokens")
            ask.job = job
        except Exception as error:
            ask.problem = _told(service, ask, error)


async def _compute(service: Service, asks: Sequence[Ask], until: float, receive: Receive, timing: Timing) -> None:
    """Wait for the forward passes, no longer than there is somebody who waits for them."""
    group, works = service.batcher.submit([ask.job for ask in asks if ask.job is not None], until)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({group.done, gone}, timeout=until - time.monotonic(), return_when=asyncio.FIRST_COMPLETED)
        if not group.done.done():
            reason = "gone" if gone.done() else "deadline"
            service.metrics.unwanted.labels(reason).inc(service.batcher.withdraw(works))
            if gone.done():
                raise ClientDisconnect
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
    for ask, outcome in zip(asks, group.outcomes, strict=True):
        match outcome:
            case None:
                ask.problem = deadline()
            case Outcome(answer=Expired()):
                ask.problem = deadline()
                service.metrics.unwanted.labels("deadline").inc()
                timing.take(outcome)
            case Outcome(answer=Exception() as error):
                ask.problem = _told(service, ask, error)
                timing.take(outcome)
            case Outcome(answer=dict() as told):
                ask.answer = told
                timing.take(outcome)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _told(service: Service, ask: Ask, error: Exception) -> Problem:
    """What the caller is told; what it is not told is in the log."""
    assert ask.handle is not None
    member = ask.handle.members[0]
    problem = problem_of(error, service.catalogue.describe(member.digest, member.manifest.task).fields)
    if problem.status >= 500 or not isinstance(error, ForewordError | Problem):
        log.error("an input failed", exc_info=error, extra={"facts": {"code": problem.code, "digest": member.digest}})
    return problem


def _bound(found: int, limit: int, what: str) -> None:
    if found > limit:
        raise Problem("input.too-long", f"An input may have {limit} {what}, this has {found}. Send it in parts")


def _characters(value: Any) -> int:
    """Of all texts in a JSON value, and at least one per value."""
    match value:
        case str():
            return len(value)
        case dict():
            return sum(len(name) + _characters(one) for name, one in value.items())
        case list():
            return len(value) + sum(map(_characters, value))
    return 1
