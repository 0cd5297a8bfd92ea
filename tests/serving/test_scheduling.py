"""Whose turn it is, on jobs that are nothing but sizes."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.serving.scheduling import Batcher, Busy, Expired, Waiting, Work
from foreword.serving.scheduling.cutting import cut
from foreword.serving.scheduling.pace import Pace
from serving_at import GENEROUS


@dataclass(eq=False)
class Size:
    """A job."""

    task: str = "a"
    longest: int = 10
    rows: int = 1
    writes: bool = False

    @property
    def handle(self) -> Any:
        return SimpleNamespace(task=self.task, writes=self.writes)

    @property
    def tokens(self) -> int:
        return self.rows * self.longest


def work(job: Size, deadline: float = float("inf"), arrived: float = 0.0) -> Work:
    return Work(job, deadline, arrived, group=None, number=0)


def waiting(**settings: int) -> Waiting:
    return Waiting(**{"batch_tokens": 100, "batch_rows": 8, "quantum": 50, **settings})


def drain(queue: Waiting, per_pass: float = 0.0) -> list[list[Size]]:
    """All batches, where a padded token takes a second and a pass so many beside its tokens."""
    batches = []
    while len(queue):
        batches.append([one.job for one in queue.batch(1.0, per_pass)])
    return batches


jobs = st.lists(
    st.builds(
        Size,
        task=st.sampled_from("abc"),
        longest=st.integers(1, 150),
        rows=st.integers(1, 12),
        writes=st.booleans(),
    ),
    max_size=60,
)


@given(jobs, st.floats(0, 500))
def test_everything_leaves_once_within_the_budgets(sizes: list[Size], per_pass: float):
    queue = waiting()
    for size in sizes:
        queue.add(work(size))
    assert sum(queue.tokens.values()) == sum(size.tokens for size in sizes)
    batches = drain(queue, per_pass)
    assert sorted(map(id, (job for batch in batches for job in batch))) == sorted(map(id, sizes))
    for batch in batches:
        assert len({job.writes for job in batch}) == 1
        if len(batch) > 1:
            rows = sum(job.rows for job in batch)
            assert rows <= 8
            assert rows * max(job.longest for job in batch) <= 100
    assert queue.tokens == {False: 0, True: 0}


@given(jobs, st.integers(1, 3), st.floats(0, 500))
def test_the_first_goes_or_the_first_who_was_passed_over_often_enough(sizes: list[Size], most: int, per_pass: float):
    queue = waiting(max_passed=most)
    left = [work(size) for size in sizes]
    for one in left:
        queue.add(one)
    while len(queue):
        left.sort(key=lambda one: one.turn)
        late = [one for one in left if one.passed >= most and one.job.writes == left[0].job.writes]
        chosen = queue.batch(1.0, per_pass)
        assert (late or left)[0] in chosen
        left = [one for one in left if one not in chosen]


@given(
    st.dictionaries(st.integers(1, 30), st.integers(1, 12), min_size=1, max_size=7),
    st.floats(0, 100),
    st.integers(1, 8),
    st.integers(20, 60),
)
def test_lengths_are_cut_as_the_best_of_all_ways_to_cut_them(
    rows: dict[int, int], per_pass: float, batch_rows: int, batch_tokens: int
):
    """Against all 2^(G-1) ways, and passes counted row by row."""

    def seconds(stretches: list[list[int]]) -> float:
        total = 0.0
        for stretch in stretches:
            left, longest = sum(rows[length] for length in stretch), max(stretch)
            total += left * longest
            while left > 0:
                total += per_pass
                taken = 1
                while taken < batch_rows and (taken + 1) * longest <= batch_tokens:
                    taken += 1
                left -= taken
        return total

    lengths = sorted(rows)
    ways = []
    for cuts in itertools.product((False, True), repeat=len(lengths) - 1):
        way = [[lengths[0]]]
        for length, apart in zip(lengths[1:], cuts, strict=True):
            way.append([length]) if apart else way[-1].append(length)
        ways.append(way)
    found = cut(rows, batch_rows=batch_rows, batch_tokens=batch_tokens, per_token=1.0, per_pass=per_pass)
    mine = [[length for length in lengths if found[length] == longest] for longest in sorted(set(found.values()))]
    assert mine in ways
    assert seconds(mine) == pytest.approx(min(map(seconds, ways)))


def test_rows_of_like_length_go_together():
    queue = waiting(batch_tokens=200, batch_rows=4)
    for length in (10, 50, 11, 49, 9, 48, 10, 50):
        queue.add(work(Size(longest=length)))
    batches = [sorted(job.longest for job in batch) for batch in drain(queue, per_pass=5)]
    assert batches == [[9, 10, 10, 11], [48, 49, 50, 50]]


def test_padding_is_worth_it_where_a_pass_costs_much_by_itself():
    for per_pass, expected in ((39, [[10], [50]]), (41, [[10, 50]])):
        queue = waiting()
        for length in (10, 50):
            queue.add(work(Size(longest=length)))
        assert [sorted(job.longest for job in batch) for batch in drain(queue, per_pass)] == expected


def test_a_task_that_floods_does_not_starve_another():
    queue = waiting(batch_rows=4, quantum=40)
    for _ in range(400):
        queue.add(work(Size("flood")))
    queue.batch(1.0, 0.0)
    quiet = work(Size("quiet"))
    queue.add(quiet)
    assert quiet in queue.batch(1.0, 0.0) or quiet in queue.batch(1.0, 0.0)


def test_busy_tasks_share_alike_whatever_they_have_put_down():
    queue = waiting(batch_rows=5, batch_tokens=50, quantum=10)
    for task, count in (("a", 300), ("b", 100), ("c", 100)):
        for _ in range(count):
            queue.add(work(Size(task)))
    served = [job.task for _ in range(30) for job in (one.job for one in queue.batch(1.0, 0.0))]
    assert {task: served.count(task) for task in "abc"} == {"a": 50, "b": 50, "c": 50}


def test_a_task_of_long_inputs_gets_tokens_not_inputs():
    queue = waiting(batch_rows=100, batch_tokens=100, quantum=100)
    for _ in range(100):
        queue.add(work(Size("long", longest=50)))
        queue.add(work(Size("short", longest=5)))
    tokens = {"long": 0, "short": 0}
    for _ in range(10):
        for one in queue.batch(1.0, 0.0):
            tokens[one.job.task] += one.job.tokens
    assert tokens["short"] > 0.3 * sum(tokens.values())


def test_what_expired_or_is_not_wanted_is_not_in_a_batch():
    queue = waiting()
    late, good, left = work(Size(), deadline=1.0), work(Size()), work(Size())
    for one in (late, good, left):
        queue.add(one)
    assert queue.withdraw([left]) == 1
    assert queue.withdraw([left]) == 0
    assert queue.expired(now=2.0) == [late]
    assert queue.batch(1.0, 0.0) == [good]
    assert queue.batch(1.0, 0.0) == []


@given(st.floats(1e-6, 1e-3), st.floats(0, 0.05), st.lists(st.integers(10, 4000), min_size=8, max_size=40))
def test_the_pace_is_the_line_through_what_was_measured(slope: float, base: float, sizes: list[int]):
    pace = Pace()
    for size in sizes:
        pace.learn(size, size, slope * size + base)
    found, at_zero = pace.line
    weights = np.array([0.97 ** (len(sizes) - 1 - n) for n in range(len(sizes))])
    mean = float(np.average(sizes, weights=weights))
    assert found * mean + at_zero == pytest.approx(slope * mean + base, rel=1e-6)
    if float(np.average((np.array(sizes) - mean) ** 2, weights=weights)) > (0.06 * mean) ** 2:
        assert found == pytest.approx(max(slope, 0.1 * (slope + base / mean)), rel=1e-3)


class TestBatcher:
    """With a run function that is told when to go on."""

    def run(self, jobs: list[Size]) -> list[Any]:
        self.began.set()
        self.gate.wait(GENEROUS)
        self.batches.append(list(jobs))
        for job in jobs:
            if job.task == "poison":
                raise MemoryError
        return [{"task": job.task} for job in jobs]

    def make(self, **settings: Any) -> Batcher:
        self.gate, self.began, self.batches = threading.Event(), threading.Event(), []
        self.gate.set()
        limits = {"max_queue": 100, "max_tokens": 10_000, **settings}
        batcher = Batcher(self.run, waiting(), **limits)
        batcher.start()
        return batcher

    async def ask(self, batcher: Batcher, sizes: list[Size], seconds: float = GENEROUS) -> list[Any]:
        group, _ = batcher.submit(sizes, time.monotonic() + seconds)
        await asyncio.wait_for(group.done, GENEROUS)
        return [outcome.answer for outcome in group.outcomes]

    def test_answers_come_back_in_order(self):
        async def go() -> None:
            batcher = self.make()
            asked = [[Size("a", n % 90 + 1), Size("b", 5)] for n in range(20)]
            answers = await asyncio.gather(*(self.ask(batcher, sizes) for sizes in asked))
            assert answers == [[{"task": "a"}, {"task": "b"}]] * 20
            batcher.stop()

        asyncio.run(go())

    def test_a_pass_that_fails_is_told_to_all_in_it_and_the_next_one_runs(self):
        async def go() -> None:
            batcher = self.make()
            answers = await self.ask(batcher, [Size("a"), Size("poison")])
            assert [type(answer) for answer in answers] == [MemoryError, MemoryError]
            assert await self.ask(batcher, [Size("b")]) == [{"task": "b"}]
            assert batcher.healthy(GENEROUS)
            batcher.stop()

        asyncio.run(go())

    def test_what_expires_in_the_queue_is_never_run(self):
        async def go() -> None:
            batcher = self.make()
            self.gate.clear()
            first = asyncio.create_task(self.ask(batcher, [Size("first")]))
            await asyncio.to_thread(self.began.wait, GENEROUS)
            group, _ = batcher.submit([Size("late")], time.monotonic() + 0.01)
            _, gone = batcher.submit([Size("unwanted")], time.monotonic() + GENEROUS)
            assert batcher.withdraw(gone) == 1
            await asyncio.sleep(0.02)
            self.gate.set()
            await first
            await asyncio.wait_for(group.done, GENEROUS)
            assert isinstance(group.outcomes[0].answer, Expired)
            batcher.stop()
            assert [[job.task for job in batch] for batch in self.batches] == [["first"]]

        asyncio.run(go())

    def test_no_more_than_fits_is_let_in(self):
        async def go() -> None:
            batcher = self.make(max_queue=10, max_tokens=50)
            batcher.admit(10)
            with pytest.raises(Busy, match="inputs") as refused:
                batcher.admit(1)
            assert refused.value.retry_after >= 1
            batcher.release(10)
            with pytest.raises(Busy, match="inputs"):
                batcher.admit(11)
            self.gate.clear()
            first = asyncio.create_task(self.ask(batcher, [Size()]))
            await asyncio.to_thread(self.began.wait, GENEROUS)
            second = asyncio.create_task(self.ask(batcher, [Size(), Size()]))
            await asyncio.sleep(0.01)
            with pytest.raises(Busy, match="tokens"):
                batcher.submit([Size(longest=40)], time.monotonic() + GENEROUS)
            self.gate.set()
            await asyncio.gather(first, second)
            batcher.stop()

        asyncio.run(go())

    def test_what_could_not_be_answered_in_time_is_refused_at_once(self):
        async def go() -> None:
            batcher = self.make()
            for pace in batcher.paces.values():
                for size in (10, 20, 30):
                    pace.learn(size, size, size * 1.0)  # a second per token
            self.gate.clear()
            batcher.admit(2, time.monotonic() + 1)  # nobody is here: it would only be known afterwards
            first = asyncio.create_task(self.ask(batcher, [Size()]))
            await asyncio.to_thread(self.began.wait, GENEROUS)
            second = asyncio.create_task(self.ask(batcher, [Size(longest=20)]))
            await asyncio.sleep(0.01)
            with pytest.raises(Busy, match="time") as refused:
                batcher.admit(1, time.monotonic() + 1)
            assert 25 <= refused.value.retry_after <= 60  # ten tokens that are being computed, and twenty that wait
            batcher.admit(1, time.monotonic() + 10 * GENEROUS)
            assert batcher.full is None
            batcher.max_wait = 20.0
            assert batcher.full == "time"
            self.gate.set()
            await asyncio.gather(first, second)
            batcher.stop()

        asyncio.run(go())

    def test_a_pass_that_does_not_end_is_reported(self):
        async def go() -> None:
            batcher = self.make()
            assert batcher.healthy(0)
            self.gate.clear()
            first = asyncio.create_task(self.ask(batcher, [Size()]))
            await asyncio.to_thread(self.began.wait, GENEROUS)
            assert not batcher.healthy(0)
            assert batcher.healthy(GENEROUS)
            self.gate.set()
            await first
            batcher.stop()
            assert not batcher.healthy(GENEROUS)

        asyncio.run(go())
