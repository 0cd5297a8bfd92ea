"""What stays in memory, what leaves, and what happens to those who still use it."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

import foreword as fw
from canaries import canary, numbers
from foreword.artifacts.format import load_artifact
from foreword.errors import ArtifactError, UnknownReference
from foreword.inference.engine.handles import Held, Member
from foreword.inference.engine.loading import Loader
from foreword.inference.engine.residents import Residents
from foreword.registry import Registry
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact

ITEM = records("classification", labelled=False)[0]


class Shelf:
    """Members that count how often they are opened, and may be damaged."""

    def __init__(self, count: int) -> None:
        base = load_artifact(tiny_artifact())
        self.artifacts = {f"task-{n}": canary(base, n) for n in range(count)}
        self.opened: list[str] = []
        self.damaged: set[str] = set()
        held = Held(self.artifacts)
        self.members = [self._counted(held.member(name)) for name in self.artifacts]

    def _counted(self, member: Member) -> Member:
        def read():
            self.opened.append(member.task)
            if member.task in self.damaged:
                raise ArtifactError(f"{member.task}: damaged")
            return member.open()

        return replace(member, open=read)


def test_a_budget_is_kept_and_the_one_used_longest_ago_leaves():
    shelf = Shelf(5)
    loader = Loader(tiny_backbone())
    size = loader(shelf.members[0]).bytes
    shelf.opened.clear()
    residents = Residents(loader, 3 * size + 1)
    for number in (0, 1, 2, 0, 3, 0, 1):  # 3 drives 1 out, since 0 was used again, and 1 then 2
        residents.get(shelf.members[number])
        assert residents.stats().resident_bytes <= 3 * size + 1
    assert shelf.opened == ["task-0", "task-1", "task-2", "task-3", "task-1"]
    assert [residents.has(member) for member in shelf.members] == [True, True, False, True, False]
    stats = residents.stats()
    assert (stats.hits, stats.misses, stats.loads, stats.evictions, stats.resident) == (2, 5, 5, 2, 3)
    assert stats.last_used.keys() == {f"task-{n}" for n in range(4)}


def test_bytes_are_those_of_prompt_and_head():
    shelf = Shelf(1)
    resident = Loader(tiny_backbone())(shelf.members[0])
    artifact = shelf.artifacts["task-0"]
    prefix = sum(tensor.nbytes for pair in artifact.prompt.prefix.values() for tensor in pair if tensor is not None)
    assert resident.bytes == prefix + sum(tensor.nbytes for tensor in artifact.head.values())


def test_what_is_in_use_outlives_its_eviction_and_comes_back_without_a_read():
    shelf = Shelf(2)
    residents = Residents(Loader(tiny_backbone()), 1)  # nothing may stay
    held = residents.get(shelf.members[0])
    assert (residents.stats().resident, residents.stats().leaving_bytes) == (0, held.bytes)
    assert residents.get(shelf.members[0]) is held
    assert shelf.opened == ["task-0"]
    del held
    gc.collect()
    assert residents.stats().leaving == 0
    residents.get(shelf.members[0])
    assert shelf.opened == ["task-0", "task-0"]


def test_one_read_however_many_wait():
    shelf = Shelf(1)
    (member,) = shelf.members
    started = Event()

    def slow():
        started.wait(30)
        return member.open()

    residents = Residents(Loader(tiny_backbone()), None)
    with ThreadPoolExecutor(20) as pool:
        coming = [pool.submit(residents.get, replace(member, open=slow)) for _ in range(20)]
        started.set()
        found = {id(one.result(60)) for one in coming}
    assert (len(found), shelf.opened, residents.stats().loads) == (1, ["task-0"], 1)


def test_one_that_is_damaged_is_tried_again_after_a_while():
    shelf, now = Shelf(2), [0.0]
    residents = Residents(Loader(tiny_backbone()), None, patience=5.0, clock=lambda: now[0])
    shelf.damaged.add("task-0")
    for _ in range(3):
        with pytest.raises(ArtifactError, match="task-0: damaged"):
            residents.get(shelf.members[0])
    residents.get(shelf.members[1])
    assert shelf.opened == ["task-0", "task-1"]
    shelf.damaged.clear()
    with pytest.raises(ArtifactError):
        residents.get(shelf.members[0])
    now[0] = 5.0
    assert residents.get(shelf.members[0]).member is shelf.members[0]


def test_all_who_wait_learn_of_a_damage():
    shelf = Shelf(1)
    shelf.damaged.add("task-0")
    residents = Residents(Loader(tiny_backbone()), None)
    with ThreadPoolExecutor(8) as pool:
        errors = [future.exception(60) for future in [pool.submit(residents.get, shelf.members[0]) for _ in range(8)]]
    assert {str(error) for error in errors} == {"task-0: damaged"}
    assert shelf.opened == ["task-0"]


def test_answers_are_the_same_when_nothing_fits():
    artifacts = Shelf(6).artifacts
    backbone = tiny_backbone()
    inputs = [(f"task-{n % 6}", item) for n, item in enumerate(records("classification", labelled=False) * 6)]
    roomy, tight = fw.Engine(backbone, artifacts), fw.Engine(backbone, artifacts, budget=1)
    for one, other in zip(tight.predict(inputs), roomy.predict(inputs), strict=True):
        assert numbers(one) == pytest.approx(numbers(other), abs=1e-5)
    assert tight.stats().resident_bytes == 0


class TestOverARegistry:
    @pytest.fixture
    def registry(self, tmp_path):
        registry = Registry(tmp_path / "registry", create=True)
        registry.add(tiny_artifact("classification", "ptuning-v2"), "sentiment")
        registry.add(tiny_artifact("classification", "ptuning-v2-mlp"), "sentiment", aliases=["champion"])
        registry.add(tiny_artifact("ner"), "names")
        return registry

    def test_references(self, registry):
        backbone = tiny_backbone()
        engine = fw.Engine(backbone, registry)
        first, second = engine.resolve("sentiment:1"), engine.resolve("sentiment")
        assert (first.version, second.version, second.task) == (1, 2, "sentiment")
        assert engine.resolve("sentiment@champion") == second
        assert engine.resolve(f"sentiment@sha256:{first.digest[:12]}") == first
        assert first.model == backbone.identity.weights[:12]
        assert not engine.resident(first)
        engine.load(first)
        assert engine.resident(first)
        with pytest.raises(UnknownReference):
            engine.resolve("other")
        answers = engine.predict([("sentiment:1", ITEM), ("sentiment", ITEM)])
        assert [answer["version"] for answer in answers] == [1, 2]
        for method, answer in zip(("ptuning-v2", "ptuning-v2-mlp"), answers, strict=True):
            (expected,) = fw.load(tiny_artifact("classification", method), backbone).predict([ITEM])
            assert numbers(answer) == pytest.approx(numbers(expected), abs=1e-5)

    def test_a_job_keeps_the_version_it_was_made_for(self, registry):
        """Through a moved alias, eviction and removal."""
        engine = fw.Engine(tiny_backbone(), registry, budget=1)
        (expected,) = engine.predict([("sentiment:2", ITEM)])
        job = engine.encode(engine.resolve("sentiment@champion"), ITEM)
        registry.set_alias("sentiment", "champion", 1)
        assert engine.resolve("sentiment@champion").version == 1
        (answer,) = engine.run([job])
        assert job.handle.version == 2
        assert numbers(answer) == numbers(expected)

    def test_a_damaged_version_fails_alone_until_it_is_repaired(self, registry, tmp_path):
        engine = fw.Engine(tiny_backbone(), registry)
        engine._residents._patience = 0.0
        digest = registry.resolve("names").manifest.files["prompt.safetensors"].sha256
        (blob,) = tmp_path.rglob(f"{digest}.safetensors")
        whole = blob.read_bytes()
        blob.chmod(0o644)
        blob.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ArtifactError):
            engine.load(engine.resolve("names"))
        engine.load(engine.resolve("sentiment"))
        blob.write_bytes(whole)
        engine.load(engine.resolve("names"))
        assert engine.stats().failures == 1
