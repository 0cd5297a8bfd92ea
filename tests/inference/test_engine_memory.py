"""A pass that there is too little memory for is learned from: the next ones are smaller."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import foreword as fw
from canaries import canary, same
from foreword.artifacts.format import load_artifact
from foreword.data.records import Record
from foreword.errors import EngineError
from foreword.inference.engine.room import Room
from tiny import tiny_backbone
from tiny_artifacts import tiny_artifact

WORDS = ("the", "doctor", "visited", "a", "good", "old", "movie", "in", "london", "and", "wrote", "letters")


def error_of(kind: str) -> None:
    """Raise as a device does, or as this machine does when it is asked for more than there is."""
    if kind == "device":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    torch.empty(1 << 50)


class Small:
    """A backbone with memory for so many positions at once; counts passes that there was none for.

    Args:
        backbone: that gets the limit.
        positions: of the largest pass that works.
        kind: of the error otherwise.
    """

    def __init__(self, backbone: fw.Backbone, positions: float, kind: str = "device") -> None:
        self.positions, self.kind = positions, kind
        self.failed, self.worked = list[int](), list[int]()
        backbone.register_forward_pre_hook(self._run)

    def _run(self, _, args):
        size = args[0].numel()
        (self.worked if size <= self.positions else self.failed).append(size)
        if size > self.positions:
            error_of(self.kind)


def texts(count: int, longest: int = 12) -> list[dict]:
    return [{"text": " ".join((WORDS * 2)[n % 7 : n % 7 + 1 + n % longest])} for n in range(count)]


@pytest.fixture
def artifacts():
    base = load_artifact(tiny_artifact())
    return {f"task-{n}": canary(base, n) for n in range(3)}


@pytest.mark.parametrize("kind", ["device", "this machine"])
@pytest.mark.parametrize("positions", [300, 60, 20])
def test_few_passes_of_a_long_stream_fail(artifacts, kind, positions):
    engine = fw.Engine(tiny_backbone(), artifacts)
    asked = [{"task": f"task-{n % 3}", **item} for n, item in enumerate(texts(600))]
    records = [Record(fields, "<memory>", n) for n, fields in enumerate(asked, start=1)]
    good = list(engine.stream(records))
    memory = Small(engine.backbone, positions, kind)
    answers = list(engine.stream(records))
    assert all(same(one, other) for one, other in zip(answers, good, strict=True))
    assert 1 <= len(memory.failed) <= 1 + math.log2(max(memory.failed) / positions)
    assert len(memory.worked) > 10 * len(memory.failed)
    stats = engine.stats()
    assert (stats.out_of_memory, stats.most_written) == (len(memory.failed), None)
    assert stats.most_read is not None
    assert positions / 2 <= stats.most_read <= positions


def test_passes_of_a_server_are_cut_too(artifacts):
    engine = fw.Engine(tiny_backbone(), artifacts)
    jobs = [engine.encode(engine.resolve(f"task-{n % 3}"), item) for n, item in enumerate(texts(24))]
    good = engine.run(jobs)
    memory = Small(engine.backbone, 100)
    for _ in range(5):
        assert all(same(one, other) for one, other in zip(engine.run(jobs), good, strict=True))
    failed = len(memory.failed)
    assert failed == engine.stats().out_of_memory <= 3
    assert max(memory.worked) > 50


def test_an_input_that_is_too_large_fails_alone_and_costs_the_others_little(artifacts):
    engine = fw.Engine(tiny_backbone(), artifacts)
    handle = engine.resolve("task-0")
    short = [engine.encode(handle, {"text": "good"}) for _ in range(12)]
    long = engine.encode(handle, {"text": " ".join(WORDS * 4)})
    good = engine.run(short)
    memory = Small(engine.backbone, long.tokens - 1)
    for _ in range(2):
        answers = engine.run([*short[:5], long, *short[5:]])
        assert isinstance(answers.pop(5), EngineError)
        assert all(same(one, other) for one, other in zip(answers, good, strict=True))
    assert engine.stats().most_read >= (long.tokens - 1) // 2  # never less than half of what there is memory for
    assert memory.failed.count(long.tokens) == 2  # it is tried each time: there may be memory now


def test_another_error_says_nothing_of_memory(artifacts):
    engine = fw.Engine(tiny_backbone(), artifacts)
    jobs = [engine.encode(engine.resolve("task-0"), item) for item in texts(4)]

    def fail(_, args):
        raise RuntimeError("not a matter of memory")

    engine.backbone.register_forward_pre_hook(fail)
    assert all(isinstance(answer, EngineError) for answer in engine.run(jobs))
    assert engine.stats().out_of_memory == 0
    assert engine.stats().most_read is None


def test_memory_that_comes_back_is_used_again():
    now = [0.0]
    room = Room(clock=lambda: now[0])
    assert room.most is None
    room.failed(4096)
    room.failed(2000)
    assert (room.most, room.failures) == (1000, 2)
    now[0] = 599
    assert room.most == 1000
    now[0] = 601
    assert room.most == 2000
    room.failed(1800)  # in vain
    assert room.most == 900
    now[0] = 601 + 1201
    assert room.most == 3600


@given(st.integers(1, 10_000), st.lists(st.integers(1, 20_000), max_size=60), st.integers(0, 700))
def test_the_limit_is_never_below_half_of_what_fits(fits, asked, pause):
    now = [0.0]
    room = Room(clock=lambda: now[0])
    for size in asked:
        now[0] += pause
        tried = size if room.most is None else min(size, room.most)
        if tried > fits:
            room.failed(tried)
            assert 2 * room.most + 1 >= fits
    if not pause:
        assert room.failures <= 16
