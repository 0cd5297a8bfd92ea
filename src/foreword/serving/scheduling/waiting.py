"""The queue: fair across tasks by deficit round robin, and batches of like length out of what comes next.

Each task may send a quantum of tokens per round, and what it left of one round it has in the next while it keeps
waiting (M. Shreedhar and G. Varghese, "Efficient Fair Queueing Using Deficit Round Robin", SIGCOMM 1995). Here
the round of an input is worked out when it comes, so the queue is one list in order of rounds: a task that
floods it fills later rounds, and the next input of any other stands in the present one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter

from foreword.serving.scheduling.cutting import cut
from foreword.serving.scheduling.work import Work

_LEAST = 32
"""What a pass costs beside its tokens is taken to be worth so many tokens at least: while that is not known, passes of
a few rows each would be the worse mistake."""
_turn = attrgetter("turn")


@dataclass(slots=True)
class _Share:
    """What a task has left: of this round, so many tokens."""

    round: int
    left: int


class Waiting:
    """Inputs that wait. Not thread safe: the batcher holds a lock.

    Args:
        batch_tokens: most tokens of a batch, padding included; an input beyond it has a batch of its own.
        batch_rows: most rows of a batch.
        look_ahead: how many batches' worth of inputs are looked at for rows of like length.
        max_passed: how often an input lets others go first for their length.
        quantum: tokens of a task per round.
    """

    def __init__(
        self, *, batch_tokens: int, batch_rows: int, look_ahead: int = 16, max_passed: int = 4, quantum: int = 512
    ) -> None:
        self.batch_tokens, self.batch_rows = batch_tokens, batch_rows
        self.look_ahead, self.max_passed, self.quantum = look_ahead, max_passed, quantum
        self.tokens = {False: 0, True: 0}
        """Tokens that wait: of inputs whose answers are read off, and of those whose answers are written."""
        self._order: list[Work] = []
        self._shares: dict[str, _Share] = {}
        self._numbers = count()
        self._round = 0

    def __len__(self) -> int:
        return len(self._order)

    @property
    def oldest(self) -> float | None:
        """When the one that waits longest came; None if nothing waits."""
        return min((work.arrived for work in self._order), default=None)

    def add(self, work: Work) -> None:
        """Put an input into its place."""
        job = work.job
        share = self._shares.get(job.handle.task)
        if share is None or share.round < self._round:  # who was away has saved nothing up
            share = self._shares[job.handle.task] = _Share(self._round, self.quantum)
        while share.left < job.tokens:
            share.round += 1
            share.left += self.quantum
        share.left -= job.tokens
        work.turn = (share.round, next(self._numbers))
        insort(self._order, work, key=_turn)
        self.tokens[job.handle.writes] += job.tokens

    def withdraw(self, works: Iterable[Work]) -> int:
        """Take inputs out that nobody wants any more; how many of them were still here."""
        found = []
        for work in works:
            place = bisect_left(self._order, work.turn, key=_turn)
            if place < len(self._order) and self._order[place] is work:
                found.append(self._order.pop(place))
        self._leave(found)
        return len(found)

    def expired(self, now: float) -> list[Work]:
        """Take out those whose time is over."""
        late = [work for work in self._order if work.deadline <= now]
        if late:
            self._order = [work for work in self._order if work.deadline > now]
            self._leave(late)
        return late

    def batch(self, per_token: float, per_pass: float) -> list[Work]:
        """Take out what goes into the next forward pass; never nothing if something waits.

        The first in order always goes, or the first of those that were passed over too often. With it go those of
        like length: all that waits is cut into passes that take the least time together, and its pass is this one.

        Args:
            per_token: seconds that a padded token takes.
            per_pass: seconds that a pass takes beside its tokens.
        """
        if not self._order:
            return []
        first = self._order[0]
        self._round = first.turn[0]
        ahead = [first, *self._ahead(first)]
        seed = next((work for work in ahead if work.passed >= self.max_passed), first)
        chosen = self._fill(seed, self._alike(seed, ahead, per_token, per_pass))
        taken = set(map(id, chosen))
        last = max(chosen, key=_turn).turn
        for work in ahead:
            if work.turn < last and id(work) not in taken:
                work.passed += 1
        self._order = [work for work in self._order if id(work) not in taken]
        self._leave(chosen)
        return chosen

    def _ahead(self, first: Work) -> list[Work]:
        """Those behind the first that may share its batch, in order."""
        room, found = self.look_ahead * self.batch_tokens, []
        for work in self._order[1:]:
            if room <= 0:
                break
            if work.job.handle.writes == first.job.handle.writes:
                found.append(work)
                room -= work.job.tokens
        return found

    def _alike(self, seed: Work, ahead: Sequence[Work], per_token: float, per_pass: float) -> list[Work]:
        """Those that share passes with one input if all are to be done soonest, in order."""
        rows: Counter[int] = Counter()
        for work in ahead:
            rows[work.job.longest] += work.job.rows
        stretch = cut(
            rows,
            batch_rows=self.batch_rows,
            batch_tokens=self.batch_tokens,
            per_token=per_token,
            per_pass=max(per_pass, _LEAST * per_token),
        )
        mine = stretch[seed.job.longest]
        return [work for work in ahead if stretch[work.job.longest] == mine]

    def _fill(self, seed: Work, alike: Sequence[Work]) -> list[Work]:
        chosen, rows, longest = [seed], seed.job.rows, seed.job.longest
        for work in alike:
            more, width = rows + work.job.rows, max(longest, work.job.longest)
            if work is not seed and more <= self.batch_rows and more * width <= self.batch_tokens:
                chosen.append(work)
                rows, longest = more, width
        return chosen

    def _leave(self, works: Sequence[Work]) -> None:
        for work in works:
            self.tokens[work.job.handle.writes] -= work.job.tokens
        if len(self._shares) > max(1024, 2 * len(self._order)):  # names that have not been asked for long
            self._shares = {name: share for name, share in self._shares.items() if share.round >= self._round}
