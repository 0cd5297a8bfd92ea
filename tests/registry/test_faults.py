"""Whatever happens while something is published, readers see old or new, and damage is seen before it is used."""

from __future__ import annotations

import os
import random
import resource
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from foreword.errors import OutputError, RegistryError
from foreword.registry import Registry
from registry_faults import Disk, contents, damaged, killed_after, killed_at, refusals, run_all
from tiny_artifacts import tiny_artifact

ARTIFACTS = (
    ("classification", "ptuning-v2"),
    ("classification", "prompt-tuning"),
    ("classification", "fine-tuning"),
    ("ner", "head-only"),
)


def publish(root, number: int = 2, name: str = "sst2") -> None:
    Registry(root).add(tiny_artifact(*ARTIFACTS[number]), name, aliases=["newest"])


def after(root, before: dict[str, str]) -> bool:
    """Whether the version is there, everything being sound, what was there before still being there."""
    now = contents(root)
    versions = {reference for reference in now if ":" in reference and "@" not in reference}
    assert {r: d for r, d in before.items() if "@" not in r}.items() <= now.items()
    assert now["sst2@latest"] in versions
    assert now["sst2@champion"] == before["sst2@champion"]
    return len(now) > len(before)


class TestKilled:
    def test_at_every_step_of_publishing(self, registry, tmp_path):
        """Of those by which the count goes up by two. A tuned backbone, so that several files are written. Into every
        fourth state something is published once more.
        """
        before = contents(registry.root)
        tiny_artifact(*ARTIFACTS[2])
        outcomes = Counter()
        for step in range(1, 500, 2):
            root = shutil.copytree(registry.root, tmp_path / "again")
            killed = killed_at(step, partial(publish, root))
            outcomes[killed, after(root, before)] += 1
            if step % 8 == 1:
                publish(root)
                Registry(root).collect(grace=0)
                assert after(root, before)
                assert not list(root.rglob("*.tmp"))
            shutil.rmtree(root)
            if not killed:
                break
        assert outcomes[True, False] > 10
        assert outcomes[True, True] > 1  # the version was there, its aliases or the end were not
        assert outcomes[False, True] == 1
        assert outcomes[False, False] == 0

    def test_at_any_time(self, registry, tmp_path):
        chance = random.Random(5)
        before = contents(registry.root)
        tiny_artifact(*ARTIFACTS[2])
        killed = 0
        for _ in range(12):
            root = shutil.copytree(registry.root, tmp_path / "again")
            killed += killed_after(chance.uniform(0.0, 0.08), lambda root=root: [publish(root) for _ in range(50)])
            after(root, before)
            publish(root)
            after(root, before)
            shutil.rmtree(root)
        assert killed == 12

    def test_while_it_removes(self, registry, tmp_path):
        for step in range(1, 100):
            root = shutil.copytree(registry.root, tmp_path / "again")
            killed = killed_at(step, lambda root=root: Registry(root).remove("sst2:2"))
            now = contents(root)
            assert now["sst2@latest"] in ("sst2:1", "sst2:2")
            shutil.rmtree(root)
            if not killed:
                break
        assert step > 4
        assert now["sst2@latest"] == "sst2:1"

    def test_while_it_is_made(self, tmp_path):
        for step in range(1, 100):
            killed = killed_at(step, lambda: Registry(tmp_path / "r", create=True))
            Registry(tmp_path / "r", create=True)
            assert contents(tmp_path / "r") == {}
            shutil.rmtree(tmp_path / "r")
            if not killed:
                break
        assert step > 4


class TestPower:
    @pytest.mark.parametrize("view", ["certain", "likely"])
    def test_lost_at_every_step(self, registry, tmp_path, view):
        """Only what was synced is there afterwards, or all names and no content that was not synced."""
        before = contents(registry.root)
        tiny_artifact(*ARTIFACTS[2])
        disk = Disk(registry.root)
        states = []

        def keep() -> None:
            states.append(tmp_path / f"state-{len(states)}")
            getattr(disk, view)(states[-1])

        with disk.watched(keep):
            publish(registry.root)
        keep()
        seen = [after(state, before) for state in states]
        assert len(seen) > 20
        assert seen == sorted(seen)  # once it is there, it stays
        assert (seen[0], seen[-1]) == (False, True)

    def test_the_test_sees_a_missing_fsync(self, registry, tmp_path, monkeypatch):
        """Else it would prove nothing."""
        import foreword.artifacts.folders as folders

        tiny_artifact(*ARTIFACTS[2])
        disk = Disk(registry.root)
        with disk.watched(lambda: None):
            monkeypatch.setattr(folders.os, "fsync", lambda handle: None)
            publish(registry.root)
        disk.likely(tmp_path / "likely")
        disk.certain(tmp_path / "certain")
        assert [len(refusals(tmp_path / view, ["sst2:3"])) for view in ("likely", "certain")] == [1, 1]

    def test_a_file_is_synced_before_it_has_its_name_and_the_name_before_the_next(self, registry, monkeypatch):
        log: list[tuple[str, str]] = []
        fsync, replace = os.fsync, os.replace

        def synced(handle: int) -> None:
            fsync(handle)
            log.append(("fsync", str(Path(f"/proc/self/fd/{handle}").readlink())))

        def renamed(source, target) -> None:
            replace(source, target)
            log.append(("rename", f"{source} {target}"))

        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", renamed)
        publish(registry.root)
        names = []
        for number, (what, where) in enumerate(log):
            if what == "rename":
                source, target = where.split(" ")
                assert log[number - 1] == ("fsync", source)
                assert log[number + 1] == ("fsync", os.path.dirname(target))  # noqa: PTH120
                names.append(os.path.relpath(target, registry.root))
        assert [Path(name).parts[0] for name in names] == ["blobs"] * 3 + ["tasks"] * 2
        assert names[2].endswith(".json")  # the manifest after what it lists
        assert names[3:] == ["tasks/sst2/versions/3.json", "tasks/sst2/aliases.json"]


class TestNoSpace:
    def test_nothing_is_left_of_a_version_that_did_not_fit(self, registry):
        """The limit on the size of files stands in for a full disk; it fails in the same call."""
        before = contents(registry.root)
        tiny_artifact(*ARTIFACTS[2])
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
        try:
            with pytest.raises(OutputError, match="cannot be written"):
                publish(registry.root)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert contents(registry.root) == before
        assert not list(registry.root.rglob("*.tmp"))


class TestTogether:
    def test_eight_publish_while_two_read(self, tmp_path):
        root = tmp_path / "r"
        artifacts = [tiny_artifact(*which) for which in ARTIFACTS]
        writers, each, names = 8, 4, ("a", "b")

        def write(number: int) -> None:
            registry = Registry(root, create=True)
            for turn in range(each):
                registry.add(artifacts[(number + turn) % 4], names[number % 2], aliases=["best"])

        seen: dict[str, int] = {}
        best: dict[str, int] = {}
        registry = Registry(root, create=True)

        def read() -> None:
            registry.changed()
            for name in registry.names():
                number = registry.aliases(name).get("best", 0)
                assert number >= best.get(name, 0)
                best[name] = number
                for version in registry.versions(name)[seen.get(name, 0) :]:
                    registry.open(version)
                    seen[name] = version.number

        assert run_all([partial(write, number) for number in range(writers)], [read, read]) == [0] * 10
        read()
        assert best == dict.fromkeys(names, writers * each // 2)
        assert {name: registry.numbers(name) for name in names} == {name: list(range(1, 17)) for name in names}
        assert registry.verify() == []

    def test_a_writer_that_does_not_end_is_not_waited_for_for_ever(self, registry, monkeypatch):
        from foreword.registry import writing

        monkeypatch.setattr(writing, "_PATIENCE", 0.05)
        with writing.writing(registry.root), pytest.raises(RegistryError, match="another process has been writing"):
            Registry(registry.root).set_alias("sst2", "best", 1)
        assert Registry(registry.root).resolve("sst2").number == 2  # readers never wait


class TestDamaged:
    def test_files_are_refused_by_name(self, registry):
        """Every version that needs the file is refused with its name; `verify` finds it too."""
        chance = random.Random(11)
        references = ["sst2@latest", "sst2@champion", "ner"]
        kinds = Counter()
        for turn in range(100):
            path, mend = damaged(registry.root, chance)
            errors = refusals(registry.root, references)
            assert errors, path
            assert all(str(path) in str(error) for error in errors), (path, errors)
            if turn % 5 == 0 and path.name != "registry.json":
                assert [str(path) in fault.problem for fault in registry.verify()].count(True) >= 1
            kinds[path.suffix, path.parent.name == "versions"] += 1
            mend()
        assert len(kinds) == 3  # numbers; manifests and aliases; versions
        assert refusals(registry.root, references) == []

    def test_a_file_of_another_version(self, registry):
        """Sound in itself, in the wrong place."""
        folder = registry.root / "tasks"
        shutil.copy(folder / "sst2/versions/1.json", folder / "sst2/versions/2.json")
        shutil.copy(folder / "sst2/aliases.json", folder / "ner/aliases.json")
        for reference, says in (("sst2", "speaks of another version"), ("ner", "is not the file of aliases of 'ner'")):
            (error,) = refusals(registry.root, [reference])
            assert says in str(error)
        assert len(registry.verify()) == 2

    def test_missing_files(self, registry):
        for path in sorted(p for p in registry.root.rglob("*") if p.is_file() and p.name != "lock"):
            content = path.read_bytes()
            path.unlink()
            if path.name == "registry.json":
                assert len(refusals(registry.root, ["ner"])) == 1
            elif path.parent.name == "ner":
                assert path.name == "aliases.json"  # of a task with one version, which can but be the latest
                assert Registry(registry.root).resolve("ner").number == 1
            else:
                assert registry.verify(), path
            path.write_bytes(content)
        assert registry.verify() == []

    def test_others_answer_meanwhile(self, registry):
        (registry.root / "tasks/sst2/aliases.json").write_text("{")
        found = Registry(registry.root)
        assert found.names() == ["ner", "sst2"]
        found.open(found.resolve("ner"))
        found.open(found.resolve("sst2:1"))
        with pytest.raises(RegistryError, match=r"aliases\.json"):
            found.resolve("sst2")
        with pytest.raises(RegistryError, match=r"aliases\.json"):
            publish(registry.root)
        assert found.numbers("sst2") == [1, 2]
        found.set_alias("sst2", "latest", 2)
        found.set_alias("sst2", "champion", 1)
        assert found.verify() == []
        publish(registry.root)

    def test_a_first_version_whose_aliases_were_never_written(self, registry):
        """Its publisher was killed: the version is there, and the latest."""
        for name in ("sst2", "ner"):
            registry.remove(name, every=True)
            publish(registry.root, name=name)
        (registry.root / "tasks/new/versions").mkdir(parents=True)
        for step in range(1, 200):
            if not killed_at(step, lambda: publish(registry.root, name=f"new{step}")):  # noqa: B023  run at once
                break
        found = Registry(registry.root)
        assert found.verify() == []
        assert len([found.resolve(name) for name in found.names()]) > 4
