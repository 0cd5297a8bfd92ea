"""Names, links and files of those who mean harm: nothing outside the registry is opened, and nothing is executed."""

from __future__ import annotations

import ast
import os
import pickle
import random
import shutil
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from foreword.artifacts.format import load_artifact
from foreword.errors import ArtifactError, OutputError, RegistryError, UnknownReference
from foreword.registry import Registry
from tiny_artifacts import fix_hash, tiny_artifact

PACKAGE = Path(__file__).parents[2] / "src" / "foreword"
_opened: list[tuple] | None = None


def _hook(event: str, arguments: tuple) -> None:
    if event == "open" and _opened is not None:
        _opened.append(arguments)


sys.addaudithook(_hook)


@contextmanager
def opened() -> Iterator[list[tuple]]:
    """Everything that this process opens meanwhile: path, mode, flags."""
    global _opened  # noqa: PLW0603  hooks cannot be taken away again
    _opened = found = []
    try:
        yield found
    finally:
        _opened = None


def outside(found: list[tuple], root: Path) -> list[tuple]:
    """What was opened elsewhere: by a whole path, or by more than a name below a folder that was opened before."""
    wrong = []
    for path, mode, flags in found:
        if isinstance(path, int):
            continue
        text = os.fsdecode(path)
        inner = "/" not in text and text not in (".", "..") and flags & os.O_NOFOLLOW
        if not inner and not (text == str(root) or (text.startswith(f"{root}/") and ".." not in text)):
            wrong.append((path, mode, flags))
    return wrong


SEEDS = [
    "../secret",
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    ".",
    "",
    "~root",
    "%2e%2e%2fsecret",
    "..\\secret",
    "C:\\secret",
    "\\\\host\\share",
    "sst2\0",
    "sst2/../../secret",
    "sst2/versions/1.json",
    "aliases.json",
    "blobs",
    "con",
    "nul.json",
    "sst2.",
    "sst2 ",
    "SST2",
    "\u0455st2",  # a Cyrillic s
    "\u202etsst2",  # right to left from here on
    "ss\u0301t2",
    "\ud800",
    "sst2\n",
    "file:///etc/passwd",
    "${HOME}",
    "$(id)",
    "evil",
    "x" * 4096,
    "-rf",
    "hf://a/b",
    "tasks/sst2",
]

SUFFIXES = ["\0", "\n", ".", " ", "\u2044", "\uff0f", ":1", "@latest", "@sha256:" + "0" * 64]


def hostile_names(count: int, seed: int = 7) -> Iterator[str]:
    """Names to begin with, then those names doubled, encoded, cut, joined, and mixed with other characters."""
    chance = random.Random(seed)
    yield from SEEDS
    changes = (
        lambda name: urllib.parse.quote(name, safe="", errors="replace"),
        lambda name: urllib.parse.quote(urllib.parse.quote(name, safe="", errors="replace"), safe=""),
        lambda name: name + chance.choice(SEEDS),
        lambda name: f"{name}/{chance.choice(SEEDS)}",
        lambda name: "../" * chance.randrange(1, 12) + name,
        lambda name: name.replace("/", "\\"),
        lambda name: name[: chance.randrange(len(name) + 1)],
        lambda name: name[::-1],
        lambda name: name.upper(),
        lambda name: "".join(chr(chance.randrange(0x10FFFF)) for _ in range(chance.randrange(1, 20))) + name,
        lambda name: name + chance.choice(SUFFIXES),
    )
    for _ in range(count - len(SEEDS)):
        name = chance.choice(SEEDS)
        for _ in range(chance.randrange(1, 4)):
            name = chance.choice(changes)(name)
        yield name


@pytest.fixture
def secret(registry) -> Path:
    """Beside the registry, and links to it in all its folders."""
    path = registry.root.parent / "secret"
    (path / "versions").mkdir(parents=True)
    shutil.copytree(registry.root / "tasks" / "sst2", path, dirs_exist_ok=True)
    (path / "keep.json").write_text("{}")
    os.utime(path / "keep.json", (1, 1))
    (registry.root / "tasks" / "evil").symlink_to(path)
    (registry.root / "blobs" / "sha256" / "zz").symlink_to(path)
    (registry.root / "tasks" / "half").mkdir()
    (registry.root / "tasks" / "half" / "versions").symlink_to(path / "versions")
    return path


class TestNames:
    def test_ten_thousand_of_them_open_nothing_outside(self, registry, secret):
        registry.changed()
        version = registry.resolve("sst2")
        known = refused = 0
        with opened() as found:
            for name in hostile_names(10_000):
                for ask in (
                    registry.resolve,
                    lambda n: registry.resolve(f"{n}:1"),
                    lambda n: registry.resolve(f"sst2@{n}"),
                    registry.versions,
                    registry.aliases,
                    lambda n: registry.set_alias(n, "best", 1),
                    lambda n: registry.remove_alias(n, "best"),
                    lambda n: registry.remove(n, every=True) if n not in ("sst2", "ner") else None,
                ):
                    try:
                        ask(name)
                        known += 1
                    except RegistryError:
                        refused += 1
        assert refused > 70_000
        assert outside(found, registry.root) == []
        with opened() as found:
            registry.open(version)  # what is opened is seen, else this proves nothing
        assert len(found) > 5
        assert outside(found, registry.root) == []
        assert len(outside(found, registry.root / "elsewhere")) > 0

    def test_none_is_published_under(self, registry, secret):
        before = set(registry.root.parent.rglob("*"))
        artifact = tiny_artifact()
        for name in hostile_names(2_000):
            with suppress(RegistryError, ArtifactError):  # some are names that a task may have
                registry.add(artifact / "nothing-there", name)
                pytest.fail("published")
            with suppress(RegistryError, ArtifactError):
                registry.add(artifact / "nothing-there", "sst2", aliases=[name])
                pytest.fail("published")
        assert set(registry.root.parent.rglob("*")) == before

    def test_messages_are_one_line_and_short(self, registry):
        for name in hostile_names(500):
            with pytest.raises(UnknownReference) as caught:
                registry.resolve(f"{name}@none")
            assert len(str(caught.value)) < 130
            assert str(caught.value).isprintable()


class TestLinks:
    def test_none_is_followed(self, registry, secret):
        with opened() as found:
            again = Registry(registry.root)
            assert again.names() == ["ner", "sst2"]
            for name in ("evil", "half"):
                with pytest.raises(UnknownReference):
                    again.resolve(name)
            faults = again.verify()
            again.collect(grace=0)
        assert outside([one for one in found if "lock" not in str(one[0])], registry.root) == []
        assert len([fault for fault in faults if "is no file of a registry" in fault.problem]) == 3
        assert (secret / "keep.json").exists()

    def test_nothing_is_written_through_one(self, registry, secret):
        (registry.root / "tasks" / "half").joinpath("versions").unlink()
        (registry.root / "tasks" / "half").rmdir()
        (registry.root / "tasks" / "new").symlink_to(secret)
        before = sorted(secret.rglob("*"))
        with pytest.raises((OutputError, RegistryError)):
            registry.add(tiny_artifact(), "new")
        assert sorted(secret.rglob("*")) == before

    @pytest.mark.parametrize("place", ["blob", "version", "aliases", "folder"])
    def test_a_link_in_the_place_of_a_file(self, registry, tmp_path, place):
        version = registry.resolve("sst2:1")
        blob = registry.open(version).files.where("prompt.safetensors")
        path = {
            "blob": blob,
            "folder": blob.parent,
            "version": registry.root / "tasks/sst2/versions/1.json",
            "aliases": registry.root / "tasks/sst2/aliases.json",
        }[place]
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        again = Registry(registry.root)
        with opened() as found, pytest.raises((RegistryError, ArtifactError)):
            again.open(again.resolve("sst2@champion"))
        assert outside(found, registry.root) == []
        assert again.verify()


class TestPickles:
    @pytest.mark.parametrize("keep", [b"", b"\x08\0\0\0\0\0\0\0{}      "])
    @pytest.mark.parametrize("name", ["prompt.safetensors", "unfolded.safetensors"])
    def test_renamed_to_safetensors(self, registry, tmp_path, keep, name):
        marker = tmp_path / "executed"

        class Payload:
            def __reduce__(self):
                return os.system, (f"touch {marker}",)

        payload = pickle.dumps(Payload())
        pickle.loads(payload)
        assert marker.exists()  # it works
        marker.unlink()
        bad = shutil.copytree(tiny_artifact(), tmp_path / "bad")
        (bad / name).write_bytes(keep + payload)
        fix_hash(bad, name)
        for read in (load_artifact, lambda path: registry.add(path, "x"), lambda path: registry.pull(path, "x")):
            with pytest.raises(ArtifactError, match=name):
                read(bad)
        assert not marker.exists()
        assert registry.names() == ["ner", "sst2"]

    @pytest.mark.parametrize("name", ["prompt.bin", "prompt.pt", "model.ckpt"])
    def test_by_their_own_names(self, registry, tmp_path, name):
        bad = shutil.copytree(tiny_artifact(), tmp_path / "bad")
        (bad / "prompt.safetensors").rename(bad / name)
        with pytest.raises(ArtifactError, match="is missing"):
            registry.add(bad, "x")

    def test_the_package_reads_none(self):
        """Of what others wrote it reads tensors alone, where the format leaves no choice."""
        for path in sorted(PACKAGE.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    named = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                    assert not named & {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml"}, path
                if isinstance(node, ast.Call):
                    words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    called = ast.unparse(node.func)
                    assert called not in ("eval", "exec", "pickle.load", "pickle.loads", "yaml.load"), path
                    assert words.get("trust_remote_code", "False") == "False", path
                    assert called != "torch.load" or words.get("weights_only") == "True", path
                    assert words.get("allow_pickle", "False") == "False", path
