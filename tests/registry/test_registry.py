"""Publishing, looking up, calling otherwise, taking back, collecting."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest

import foreword as fw
from foreword.artifacts.format import load_artifact, load_unfolded
from foreword.errors import ArtifactError, OutputError, RegistryError, UnknownReference
from foreword.inference.predictor import Predictor
from foreword.registry import Registry
from tiny import tiny_backbone
from tiny_artifacts import METHODS, answers_of, change_tensors, tiny_artifact


def files(root):
    return {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}


class TestPublishing:
    def test_numbers_and_latest(self, registry):
        assert registry.names() == ["ner", "sst2"]
        assert [v.reference for v in registry.versions("sst2")] == ["sst2:1", "sst2:2"]
        assert registry.aliases("sst2") == {"champion": 1, "latest": 2}
        assert registry.aliases("ner") == {"latest": 1}

    def test_files_are_named_by_what_they_hold(self, registry):
        blobs = {name: path for name, path in files(registry.root).items() if name.startswith("blobs")}
        assert len(blobs) == 6
        for name, path in blobs.items():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            assert name.startswith(f"blobs/sha256/{digest[:2]}/{digest}.")
            assert path.stat().st_mode & 0o777 == 0o444

    def test_the_digest_is_that_of_the_manifest_which_lists_the_others(self, registry):
        version = registry.resolve("sst2:1")
        content = files(registry.root)[f"blobs/sha256/{version.digest[:2]}/{version.digest}.json"].read_bytes()
        assert hashlib.sha256(content).hexdigest() == version.digest
        assert {e["sha256"] for e in json.loads(content)["files"].values()} == {
            hashlib.sha256((tiny_artifact() / "prompt.safetensors").read_bytes()).hexdigest()
        }
        assert version.created == load_artifact(tiny_artifact()).manifest.created

    def test_the_same_artifact_has_the_same_digest_everywhere_and_takes_no_more_space(self, registry, tmp_path):
        before = set(files(registry.root / "blobs"))
        again = registry.add(tiny_artifact(), "other")
        assert again.digest == registry.resolve("sst2:1").digest
        assert set(files(registry.root / "blobs")) == before
        assert Registry(tmp_path / "b", create=True).add(tiny_artifact(), "x").digest == again.digest

    @pytest.mark.parametrize("method", METHODS)
    def test_what_is_opened_is_what_the_folder_holds(self, tmp_path, method):
        registry = Registry(tmp_path / "r", create=True)
        version = registry.add(tiny_artifact("classification", method), "x")
        opened = Predictor(registry.open(version), tiny_backbone())
        assert answers_of(opened) == answers_of(fw.load(tiny_artifact("classification", method), tiny_backbone()))

    @pytest.mark.parametrize("unfolded", [False, True])
    def test_numbers_for_training_are_kept_if_asked(self, registry, unfolded):
        artifact = registry.open(registry.add(tiny_artifact(), "x", unfolded=unfolded))
        assert artifact.trains_on == unfolded
        if unfolded:
            wanted = load_unfolded(load_artifact(tiny_artifact()))
            assert {n: t.tolist() for n, t in load_unfolded(artifact).items()} == {
                n: t.tolist() for n, t in wanted.items()
            }

    def test_a_damaged_artifact_is_not_published(self, registry, tmp_path):
        bad = shutil.copytree(tiny_artifact(), tmp_path / "bad")
        change_tensors(bad, lambda tensors: tensors["head/layers.1.weight"].view(-1)[0].fill_(float("nan")) and None)
        before = set(files(registry.root))
        with pytest.raises(ArtifactError, match="not finite"):
            registry.add(bad, "sst2")
        assert set(files(registry.root)) == before

    def test_publishing_again_mends_a_damaged_file(self, registry):
        blob = registry.open(registry.resolve("sst2:1")).files.where("prompt.safetensors")
        blob.chmod(0o644)
        blob.write_bytes(b"x")
        assert len(registry.verify()) == 1
        registry.add(tiny_artifact(), "elsewhere")
        assert registry.verify() == []

    @pytest.mark.parametrize("name", ["", "A", "-a", "../a", "a" * 65, "a/b", "a\n", "ä", "a@b", "a:1", "."])
    def test_names_that_are_none(self, registry, name):
        with pytest.raises(RegistryError, match="is no name for a task"):
            registry.add(tiny_artifact(), name)

    @pytest.mark.parametrize("alias", ["", "1", "1a", "A", "a/b", "a" * 65, "sha256:0123456789ab"])
    def test_aliases_that_are_none(self, registry, alias):
        for change in (
            lambda: registry.add(tiny_artifact(), "x", aliases=[alias]),
            lambda: registry.set_alias("sst2", alias, 1),
        ):
            with pytest.raises(RegistryError, match="is no alias"):
                change()
        assert registry.names() == ["ner", "sst2"]


class TestFolders:
    def test_that_are_no_registry(self, tmp_path):
        with pytest.raises(RegistryError, match="is no registry"):
            Registry(tmp_path)
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(RegistryError, match="neither a registry nor empty"):
            Registry(tmp_path, create=True)
        assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]

    def test_of_another_layout(self, registry):
        from foreword.registry.sealed import seal

        (registry.root / "registry.json").write_bytes(seal({"format": "foreword-registry", "layout": 2}))
        with pytest.raises(RegistryError, match="layout 2; this Foreword reads 1"):
            Registry(registry.root)

    def test_below_a_file(self, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match="cannot be made a registry"):
            Registry(tmp_path / "file" / "r", create=True)

    def test_empty(self, tmp_path):
        registry = Registry(tmp_path / "r", create=True)
        assert (registry.names(), registry.verify(), registry.changed()) == ([], [], False)


class TestReferences:
    def test_all_ways_to_say_one(self, registry):
        first, second = registry.versions("sst2")
        for reference, wanted in {
            "sst2": second,
            "sst2@latest": second,
            "sst2@champion": first,
            "sst2:1": first,
            f"sst2@sha256:{first.digest}": first,
            f"sst2@sha256:{second.digest[:12]}": second,
        }.items():
            assert registry.resolve(reference) == wanted

    def test_a_digest_of_two_versions_is_the_newer(self, registry):
        again = registry.add(tiny_artifact(), "sst2")
        assert registry.resolve(f"sst2@sha256:{again.digest}").number == 3

    @pytest.mark.parametrize(
        "reference",
        [
            *("", "x", "sst2@", "sst2:", "sst2:0", "sst2:01", "sst2:3", "sst2:-1", "sst2:9999999999", "sst2@none"),
            *("SST2", "sst2@sha256:", "sst2@sha256:0123", "sst2@sha256:000000000000", "sst2@latest ", "sst2:1\n"),
            "sst2@latest:1",
        ],
    )
    def test_there_is_none(self, registry, reference):
        with pytest.raises(UnknownReference) as caught:
            registry.resolve(reference)
        assert str(caught.value) == f"{reference!r}: no such task or version"
        assert caught.value.code == "registry.unknown"

    def test_what_others_publish_is_seen_at_the_next_look(self, registry):
        other = Registry(registry.root)
        assert not other.changed()
        for change, reference in (
            (lambda: registry.add(tiny_artifact(), "new"), "new"),
            (lambda: registry.add(tiny_artifact(), "new"), "new:2"),
            (lambda: registry.set_alias("new", "best", 1), "new@best"),
        ):
            change()
            with pytest.raises(UnknownReference):
                other.resolve(reference)
            assert other.changed()
            assert not other.changed()
            assert other.resolve(reference) == registry.resolve(reference)
        registry.remove("new", every=True)
        assert other.changed()
        with pytest.raises(UnknownReference):
            other.resolve("new")

    def test_also_where_nothing_happened_for_long(self, registry):
        """Then files are not read again as long as their times stay."""
        for path in (registry.root / "tasks").glob("*/*"):
            os.utime(path, (1e9, 1e9))
        other = Registry(registry.root)
        listing = other._index["sst2"]
        assert not other.changed()
        assert other._index["sst2"] is listing
        for change in (
            lambda: registry.set_alias("sst2", "champion", 2),
            lambda: registry.add(tiny_artifact(), "sst2"),
            lambda: registry.remove("sst2:1"),
        ):
            change()
            assert other.changed()
            assert other._index["sst2"].same(registry._index["sst2"])


class TestAliases:
    def test_move(self, registry):
        registry.set_alias("sst2", "champion", 2)
        registry.set_alias("sst2", "latest", 1)
        assert (registry.resolve("sst2@champion").number, registry.resolve("sst2").number) == (2, 1)

    def test_go(self, registry):
        registry.remove_alias("sst2", "champion")
        assert registry.aliases("sst2") == {"latest": 2}
        with pytest.raises(UnknownReference):
            registry.remove_alias("sst2", "champion")
        with pytest.raises(RegistryError, match="is what 'sst2' alone stands for"):
            registry.remove_alias("sst2", "latest")

    @pytest.mark.parametrize(("name", "number"), [("sst2", 3), ("sst2", 0), ("none", 1)])
    def test_of_nothing(self, registry, name, number):
        with pytest.raises(UnknownReference):
            registry.set_alias(name, "best", number)


class TestRemoving:
    def test_numbers_are_never_used_again(self, registry):
        assert registry.remove("sst2:2") == ["sst2:2"]
        assert registry.aliases("sst2") == {"champion": 1, "latest": 1}
        assert registry.add(tiny_artifact(), "sst2").number == 3
        assert registry.remove("sst2", every=True) == ["sst2:1", "sst2:3"]
        assert registry.names() == ["ner"]
        assert registry.add(tiny_artifact(), "sst2").number == 4
        assert registry.aliases("sst2") == {"latest": 4}
        assert registry.verify() == []

    def test_not_what_an_alias_stands_for(self, registry):
        with pytest.raises(RegistryError, match="'sst2@champion' stands for sst2:1"):
            registry.remove("sst2:1")
        assert registry.numbers("sst2") == [1, 2]

    @pytest.mark.parametrize("reference", ["sst2", "sst2@champion"])
    def test_not_what_may_be_another_version_at_any_time(self, registry, reference):
        with pytest.raises(RegistryError, match="say which version"):
            registry.remove(reference)

    @pytest.mark.parametrize(("reference", "every"), [("sst2:9", False), ("x", True), ("sst2:1", True), ("..", True)])
    def test_nothing_there(self, registry, reference, every):
        with pytest.raises(UnknownReference):
            registry.remove(reference, every=every)

    def test_what_is_open_goes_on(self, registry):
        version = registry.resolve("sst2")
        registry.remove("sst2:2")
        registry.collect(grace=3600)
        registry.open(version)  # as a server does that found it just before
        registry.collect(grace=0)
        with pytest.raises(ArtifactError, match="is missing"):
            registry.open(version)


class TestCollecting:
    def test_only_what_nobody_needs(self, registry):
        registry.add(tiny_artifact(), "other")
        registry.remove("sst2", every=True)
        assert registry.collect(grace=3600).files == 0
        done = registry.collect(grace=0)
        assert done.files == 2  # prompt and manifest of version 2; 'other' needs those of version 1
        assert done.bytes > 0
        assert len(files(registry.root / "blobs")) == 4
        assert registry.verify() == []
        for name in ("other", "ner"):
            registry.open(registry.resolve(name))

    def test_leavings_of_the_killed(self, registry):
        for place in ("", "blobs/sha256/00", "tasks/sst2", "tasks/sst2/versions"):
            (registry.root / place).mkdir(exist_ok=True)
            (registry.root / place / ".1.json.99.tmp").write_text("half")
        assert registry.verify() == []
        assert registry.collect(grace=3600).files == 4

    def test_a_file_written_just_now_stays(self, registry):
        digest = hashlib.sha256(b"{}").hexdigest()
        folder = registry.root / "blobs" / "sha256" / digest[:2]
        folder.mkdir(exist_ok=True)
        (folder / f"{digest}.json").write_bytes(b"{}")
        assert registry.collect(grace=60).files == 0
        os.utime(folder / f"{digest}.json", (1, 1))
        assert registry.collect(grace=60).files == 1

    def test_nothing_while_it_is_not_known_what_is_needed(self, registry):
        (registry.root / "tasks/sst2/versions/2.json").write_text("{}")
        registry.remove("ner", every=True)
        before = set(files(registry.root))
        with pytest.raises(RegistryError, match="It is not known which files sst2:2 needs"):
            registry.collect(grace=0)
        assert set(files(registry.root)) == before
        registry.remove("sst2:2")
        assert registry.collect(grace=0).files == 4
