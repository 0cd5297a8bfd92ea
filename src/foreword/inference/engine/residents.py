"""What is in memory of the artifacts: prompts as ready keys and values, and heads, under a budget of bytes.

An artifact that is asked for is read once, however many threads wait for it. Beyond the budget those that were not
asked for longest leave; whoever holds one still, such as a batch in flight, keeps its tensors until it is done.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from foreword.heads import Head
from foreword.inference.engine.handles import Member
from foreword.injection import Prompt
from foreword.tasks import Task


@dataclass(frozen=True, eq=False)
class Resident:
    """One artifact, ready to be read by rows of a batch.

    Attributes:
        member: which.
        task: with its labels and thresholds.
        prompts: one, or the K of a mixture.
        log_weights: ``(K,)`` of a mixture, else None.
        head: with its trained weights, in evaluation mode.
        make: equal where heads differ in their numbers only.
        reserved: positions of a row that are the prompt's.
        bytes: of all its tensors.
    """

    member: Member
    task: Task[Any, Any]
    prompts: tuple[Prompt, ...]
    log_weights: Tensor | None
    head: Head
    make: Hashable
    reserved: int
    bytes: int


@dataclass(frozen=True)
class Stats:
    """What happened so far, and what is in memory now.

    Attributes:
        budget: bytes that may stay; None without a limit.
        resident: artifacts that stay, and ``resident_bytes``.
        leaving: artifacts that left but are still held, and ``leaving_bytes``.
        hits, misses: how often an artifact that was asked for was there, or was not.
        loads: how often one was read, and ``failures``, how often in vain.
        evictions: how often one had to leave.
        last_used: name of a task -> seconds since the epoch.
        out_of_memory: passes that there was too little memory for.
        most_read, most_written: positions of the largest pass that is tried since then, of passes that read and of
            those that write; None without a limit.
    """

    budget: int | None
    resident: int
    resident_bytes: int
    leaving: int
    leaving_bytes: int
    hits: int
    misses: int
    loads: int
    failures: int
    evictions: int
    last_used: dict[str, float]
    out_of_memory: int = 0
    most_read: int | None = None
    most_written: int | None = None


class Residents:
    """Artifacts in memory. Every method may be called from any thread.

    Args:
        load: reads one and makes it ready.
        budget: bytes that may stay in memory; None without a limit.
        patience: seconds for which one that could not be read is not tried again.
        clock: seconds that pass.
    """

    def __init__(
        self,
        load: Callable[[Member], Resident],
        budget: int | None,
        *,
        patience: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._budget, self._patience, self._clock = load, budget, patience, clock
        self._lock = Lock()
        self._kept: OrderedDict[str, Resident] = OrderedDict()
        self._left: WeakValueDictionary[str, Resident] = WeakValueDictionary()
        self._coming: dict[str, Future[Resident]] = {}
        self._failed: dict[str, tuple[Exception, float]] = {}
        self._bytes = self._hits = self._misses = self._loads = self._failures = self._evictions = 0
        self._used: dict[str, float] = {}

    def get(self, member: Member) -> Resident:
        """The artifact, read now if it is not there.

        Raises:
            ForewordError: it cannot be read, or could not a moment ago.
        """
        with self._lock:
            self._used[member.task] = time.time()
            found = self._kept.get(member.digest) or self._left.get(member.digest)
            if found is not None:
                self._hits += 1
                self._keep(found)
                return found
            self._misses += 1
            self._refuse_what_failed(member)
            coming = self._coming.get(member.digest)
            mine = coming is None
            if coming is None:
                coming = self._coming[member.digest] = Future()
                self._loads += 1
        if mine:
            self._bring(member, coming)
        return coming.result()

    def has(self, member: Member) -> bool:
        """Whether it is in memory to stay."""
        return member.digest in self._kept

    def stats(self) -> Stats:
        """Numbers of this moment."""
        with self._lock:
            left = [one for digest, one in self._left.items() if digest not in self._kept]
            return Stats(
                budget=self._budget,
                resident=len(self._kept),
                resident_bytes=self._bytes,
                leaving=len(left),
                leaving_bytes=sum(one.bytes for one in left),
                hits=self._hits,
                misses=self._misses,
                loads=self._loads,
                failures=self._failures,
                evictions=self._evictions,
                last_used=dict(self._used),
            )

    def _bring(self, member: Member, coming: Future[Resident]) -> None:
        """Read it, and tell all who wait."""
        try:
            found = self._load(member)
        except BaseException as error:
            with self._lock:
                del self._coming[member.digest]
                self._failures += 1
                if isinstance(error, Exception):
                    self._failed[member.digest] = (error, self._clock() + self._patience)
            coming.set_exception(error)
            return
        with self._lock:
            del self._coming[member.digest]
            self._keep(found)
        coming.set_result(found)

    def _refuse_what_failed(self, member: Member) -> None:
        now = self._clock()
        self._failed = {digest: entry for digest, entry in self._failed.items() if entry[1] > now}
        if member.digest in self._failed:
            raise self._failed[member.digest][0].with_traceback(None)

    def _keep(self, found: Resident) -> None:
        """Let it stay as the one that was used last, and others leave as far as there is no room for them."""
        digest = found.member.digest
        if digest not in self._kept:
            self._bytes += found.bytes
            self._left[digest] = self._kept[digest] = found
        self._kept.move_to_end(digest)
        while self._budget is not None and self._bytes > self._budget:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.bytes
            self._evictions += 1
