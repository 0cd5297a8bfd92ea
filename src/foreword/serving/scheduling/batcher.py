"""Requests in, forward passes out: one at a time, in a thread of its own, begun as soon as the last one ended."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from foreword.errors import ForewordError
from foreword.serving.scheduling.pace import Pace
from foreword.serving.scheduling.waiting import Waiting
from foreword.serving.scheduling.work import Expired, Group, Job, Outcome, Pass, Work

ResultT = TypeVar("ResultT")

Answers = Sequence[dict[str, Any] | ForewordError]
Observer = Callable[[Pass], None]

_LONGEST_RETRY = 60
_CAUTION = 1.25
"""By how much the time until an answer is taken to be longer than it is worked out to be."""
log = logging.getLogger(__name__)


class Busy(Exception):  # noqa: N818  not an error: nothing failed
    """More is waiting than can be answered in time.

    Args:
        reason: "inputs", "tokens" or "time", for the metrics.
        retry_after: whole seconds after which it may fit.
    """

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(reason)
        self.reason, self.retry_after = reason, retry_after


class Batcher:
    """Admission, queue and forward thread. All methods are for the thread of the event loop.

    Args:
        run: one forward pass over jobs; called from one thread only.
        waiting: the queue.
        max_queue: most inputs that are in the house at once.
        max_tokens: most tokens that wait at once.
        max_wait: most seconds of work that may be in the house, for `full`.
        tokenizers: threads for `aside`.
        observe: told of every pass.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Any]], Answers],
        waiting: Waiting,
        *,
        max_queue: int,
        max_tokens: int,
        max_wait: float = math.inf,
        tokenizers: int = 2,
        observe: Observer | None = None,
    ) -> None:
        self._run, self._waiting, self._observe = run, waiting, observe
        self.max_queue, self.max_tokens, self.max_wait = max_queue, max_tokens, max_wait
        self.inside = 0
        """Inputs that are in the house: being encoded, waiting, or in a pass."""
        self.paces = {False: Pace(), True: Pace()}
        self._aside = ThreadPoolExecutor(tokenizers, thread_name_prefix="tokenize")
        self._ready = threading.Condition()
        self._stopping = False
        self._began: float | None = None
        self._running = self._running_inputs = 0
        self._tokens = 0.0
        """Tokens of an input, lately; those of inputs that are being encoded are not known."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="forward", daemon=True)

    def start(self) -> None:
        """Begin. Call it from the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end the threads."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        self._aside.shutdown(wait=False, cancel_futures=True)

    def healthy(self, stuck: float) -> bool:
        """Whether the forward thread lives, and is in no pass for longer than ``stuck`` seconds."""
        began = self._began
        return self._thread.is_alive() and (began is None or time.monotonic() - began < stuck)

    @property
    def waiting(self) -> tuple[int, int, float]:
        """Inputs and tokens that wait, and for how many seconds the oldest has."""
        with self._ready:
            oldest = self._waiting.oldest
            age = 0.0 if oldest is None else time.monotonic() - oldest
            return len(self._waiting), sum(self._waiting.tokens.values()), age

    @property
    def full(self) -> str | None:
        """Why not even one more input finds room, "inputs" or "time"; None if it does."""
        if self.inside >= self.max_queue:
            return "inputs"
        return "time" if self.inside and self._backlog(1) > self.max_wait else None

    @property
    def retry_after(self) -> int:
        """Whole seconds after which there may be room, from how fast the latest passes were."""
        return max(1, min(_LONGEST_RETRY, math.ceil(self._backlog(0))))

    def admit(self, inputs: int, deadline: float = math.inf) -> None:
        """Let so many inputs into the house; `release` them when they are answered.

        Whoever would be answered too late is refused here, before anything is done for it: work that expires in the
        queue is work that somebody else could have had.

        Raises:
            Busy: there is no room, or not in time.
        """
        if self.inside + inputs > self.max_queue:
            raise Busy("inputs", self.retry_after)
        if self.inside and time.monotonic() + _CAUTION * self._backlog(inputs) > deadline:
            raise Busy("time", self.retry_after)
        self.inside += inputs

    def release(self, inputs: int) -> None:
        """So many inputs left."""
        self.inside -= inputs

    async def aside(self, call: Callable[[], ResultT]) -> ResultT:
        """Run what takes time, such as encoding, off the event loop and off the forward thread."""
        return await asyncio.get_running_loop().run_in_executor(self._aside, call)

    def submit(self, jobs: Sequence[Job], deadline: float) -> tuple[Group, list[Work]]:
        """Put the jobs of one request into the queue, all or none.

        Raises:
            Busy: too many tokens wait.
        """
        now, loop = time.monotonic(), asyncio.get_running_loop()
        tokens = sum(job.tokens for job in jobs)
        group = Group([None] * len(jobs), loop.create_future())
        works = [Work(job, deadline, now, group, number) for number, job in enumerate(jobs)]
        with self._ready:
            before = sum(self._waiting.tokens.values())
            if before and before + tokens > self.max_tokens:
                raise Busy("tokens", self.retry_after)
            self._tokens += 0.1 * (tokens / len(jobs) - self._tokens)
            for work in works:
                self._waiting.add(work)
            self._ready.notify()
        return group, works

    def withdraw(self, works: Sequence[Work]) -> int:
        """Nobody waits for these any more: what is not begun is not computed. How many that were."""
        with self._ready:
            return self._waiting.withdraw(works)

    def _backlog(self, more: int) -> float:
        """Seconds until all that is in the house is answered, and so many more inputs."""
        size = self._waiting.batch_tokens
        known = sum(self._waiting.tokens.values()) + self._running
        unknown = max(0, self.inside + more - len(self._waiting) - self._running_inputs) * self._tokens
        reads = self.paces[False].drain(known - self._waiting.tokens[True] + unknown, size)
        return reads + self.paces[True].drain(self._waiting.tokens[True], size)

    def _serve(self) -> None:
        """The forward thread."""
        while True:
            with self._ready:
                while not len(self._waiting) and not self._stopping:
                    self._ready.wait()
                if not len(self._waiting):
                    return
                late = self._waiting.expired(time.monotonic())
                batch = self._waiting.batch(*self.paces[False].line)
            now = time.monotonic()
            self._deliver([(work, Outcome(Expired(), now - work.arrived)) for work in late])
            if batch:
                self._pass(batch)

    def _pass(self, batch: list[Work]) -> None:
        tokens = sum(work.job.tokens for work in batch)
        self._running, self._running_inputs = tokens, len(batch)
        began = self._began = time.monotonic()
        answers = self._answers([work.job for work in batch])
        seconds, self._began = time.monotonic() - began, None
        self._running = self._running_inputs = 0
        done = Pass(batch, seconds, [began - work.arrived for work in batch])
        self.paces[batch[0].job.handle.writes].learn(tokens, done.padded, seconds)
        if self._observe is not None:
            self._observe(done)
        self._deliver(
            [
                (work, Outcome(answer, waited, seconds, done.rows, done.tasks))
                for work, answer, waited in zip(batch, answers, done.waits, strict=True)
            ]
        )

    def _answers(self, jobs: Sequence[Job]) -> list[dict[str, Any] | Exception]:
        """One pass. The engine finds inputs at fault by itself, so what it raises is the matter of all of them."""
        try:
            return list(self._run(jobs))
        except Exception as error:
            log.warning("a forward pass failed", exc_info=error)
            return [error] * len(jobs)

    def _deliver(self, outcomes: Sequence[tuple[Work, Outcome]]) -> None:
        if outcomes and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_hand_out, outcomes)


def _hand_out(outcomes: Sequence[tuple[Work, Outcome]]) -> None:
    for work, outcome in outcomes:
        work.group.take(work.number, outcome)
