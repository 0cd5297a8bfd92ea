"""An artifact that is damaged, altered or hostile is refused with its file or field, and nothing beside it is read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import foreword as fw
from foreword.artifacts.format import load_artifact, load_unfolded
from foreword.errors import ArtifactError, BackboneError
from tiny import tiny_backbone, tiny_backbone_folder
from tiny_artifacts import change_manifest, change_tensors, fix_hash, tiny_artifact, train_tiny

SERVED, MANIFEST, TUNED = "prompt.safetensors", "artifact.json", "backbone.safetensors"


def copied(tmp_path: Path, task: str = "classification", method: str = "ptuning-v2") -> Path:
    return Path(shutil.copytree(tiny_artifact(task, method), tmp_path / "artifact"))


@pytest.fixture
def artifact(tmp_path) -> Path:
    return copied(tmp_path)


@pytest.fixture
def tuned(tmp_path) -> Path:
    return copied(tmp_path, method="fine-tuning")


def refused(artifact: Path, *says: str) -> None:
    """By `load_artifact` itself, before any backbone is there."""
    with pytest.raises(ArtifactError) as caught:
        load_artifact(artifact)
    for text in says:
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def unfit(artifact: Path, *says: str, backbone=None) -> None:
    """Whole in itself, but not for this backbone."""
    found = load_artifact(artifact)
    with pytest.raises(ArtifactError) as caught:
        fw.Predictor(found, backbone or tiny_backbone())
    for text in (str(artifact), *says):
        assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def renamed(old: str, new: str):
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


class TestFiles:
    @pytest.mark.parametrize("name", [SERVED, "unfolded.safetensors"])
    @pytest.mark.parametrize("at", [9, -1])
    def test_a_single_other_bit(self, artifact, name, at):
        content = bytearray((artifact / name).read_bytes())
        content[at] ^= 1
        (artifact / name).write_bytes(content)
        refused(artifact, str(artifact / name), "its sha256 is not the one in its manifest")

    def test_a_backbone_with_a_single_other_bit(self, tuned):
        content = bytearray((tuned / TUNED).read_bytes())
        content[-1] ^= 1
        (tuned / TUNED).write_bytes(content)
        refused(tuned, TUNED, "its sha256 is not")

    def test_truncated(self, artifact):
        content = (artifact / SERVED).read_bytes()
        (artifact / SERVED).write_bytes(content[:-1])
        refused(artifact, str(artifact / SERVED), f"has {len(content) - 1} bytes, its manifest says {len(content)}")

    @pytest.mark.parametrize("name", [SERVED, "unfolded.safetensors"])
    def test_missing(self, artifact, name):
        (artifact / name).unlink()
        refused(artifact, f"{artifact / name}: is missing")

    @pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{}      rest", b"\x80\x04N."])
    def test_not_safetensors_though_the_hash_is_right(self, artifact, content):
        (artifact / SERVED).write_bytes(content)
        fix_hash(artifact, SERVED)
        refused(artifact, f"{artifact / SERVED}: ")

    def test_safetensors_without_tensors(self, artifact):
        change_tensors(artifact, lambda _: {})
        unfit(artifact, "its prompt: 'prefix/encoder.0/key' is missing")

    def test_a_folder_in_place_of_a_file(self, artifact):
        (artifact / SERVED).unlink()
        (artifact / SERVED).mkdir()
        refused(artifact, f"{artifact / SERVED}: is missing")


class TestNoReadingElsewhere:
    """The files a manifest lists are ours by name, or none is looked at."""

    @pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "..", "", ".", "a\0b", "x" * 5000, "notes.txt"])
    def test_other_names(self, artifact, name):
        (artifact.parent / "secret").write_text("secret")
        entry = {"sha256": "0" * 64, "bytes": 6}
        change_manifest(artifact, lambda raw: raw["files"].update({name: entry}))
        refused(artifact, f"{artifact / MANIFEST}: files: ", "is no file of such an artifact")

    def test_a_tuned_backbone_where_the_method_tunes_none(self, artifact, tuned_file):
        shutil.copy(tuned_file, artifact / TUNED)
        fix_hash(artifact, TUNED)
        refused(artifact, f"'{TUNED}' is no file of such an artifact")

    @pytest.mark.parametrize(
        ("method", "name"), [("ptuning-v2", SERVED), ("fine-tuning", SERVED), ("fine-tuning", TUNED)]
    )
    def test_a_file_that_is_there_but_not_listed(self, tmp_path, method, name):
        artifact = copied(tmp_path, method=method)
        change_manifest(artifact, lambda raw: raw["files"].pop(name))
        refused(artifact, f"files: '{name}' is missing")

    @pytest.mark.parametrize("name", [SERVED, MANIFEST])
    def test_links(self, artifact, name):
        elsewhere = artifact.parent / "elsewhere"
        (artifact / name).rename(elsewhere)
        (artifact / name).symlink_to(elsewhere)
        refused(artifact, f"{artifact / name}: is a link")

    def test_a_pipe_is_not_waited_for(self, artifact):
        (artifact / SERVED).unlink()
        os.mkfifo(artifact / SERVED)
        refused(artifact, f"{artifact / SERVED}: is missing")

    @pytest.fixture
    def tuned_file(self) -> Path:
        return tiny_artifact("classification", "fine-tuning") / TUNED


class TestNumbers:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("name", ["head/layers.1.weight", "prefix/encoder.1/value"])
    def test_not_finite(self, artifact, name, value):
        change_tensors(artifact, lambda tensors: tensors[name].view(-1)[3:4].fill_(value) and None)
        refused(artifact, f"{artifact / SERVED}: '{name}' holds values that are not finite")

    def test_not_finite_in_the_unfolded_prompt(self, artifact):
        name = "unfolded.safetensors"
        change_tensors(
            artifact, lambda tensors: tensors["prompt.weight"].view(-1)[0].fill_(float("nan")) and None, name
        )
        with pytest.raises(ArtifactError, match=r"unfolded\.safetensors: 'prompt\.weight' holds values"):
            load_unfolded(load_artifact(artifact))

    def test_not_finite_in_a_tuned_backbone(self, tuned):
        change_tensors(
            tuned, lambda tensors: next(iter(tensors.values())).view(-1)[0].fill_(float("nan")) and None, TUNED
        )
        unfit(tuned, TUNED, "holds values that are not finite")

    @pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn, torch.float16])
    def test_other_types(self, artifact, dtype):
        name = "prefix/encoder.0/key"
        change_tensors(artifact, lambda tensors: tensors | {name: tensors[name].to(dtype)})
        refused(artifact, f"{artifact / SERVED}: '{name}' is {dtype}", "expected float32")

    @pytest.mark.parametrize("name", ["prefix/encoder.0/key", "head/layers.4.weight"])
    def test_empty(self, artifact, name):
        change_tensors(artifact, lambda tensors: tensors | {name: torch.zeros(0, 4)})
        refused(artifact, f"'{name}' is torch.float32 (0, 4)")


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "prefix/encoder.0",
            "prefix/encoder.0/",
            "prefix/encoder.0/query",
            "prefix/encoder.0/key/more",
            "prefix",
            "prefix//key",
            "head",
            "head/a/b",
            "other/x",
            "weight",
            "",
        ],
    )
    def test_of_no_tensor_of_ours(self, artifact, name):
        change_tensors(artifact, lambda tensors: tensors | {name: torch.zeros(4, 4, 8)})
        refused(artifact, f"{artifact / SERVED}: '{name}'")

    @pytest.mark.parametrize(
        "site", ["encoder", "encoder.x", "encoder.", "encoder.00", "encoder.+0", "encoder.1_0", "9", "encoder. 1"]
    )
    def test_of_no_site(self, artifact, site):
        change_tensors(artifact, lambda tensors: tensors | {f"prefix/{site}/key": torch.zeros(4, 4, 8)})
        refused(artifact, f"'{site}' is no attention site")

    @pytest.mark.parametrize("half", ["key", "value"])
    def test_half_a_pair(self, artifact, half):
        change_tensors(artifact, lambda tensors: tensors.pop(f"prefix/encoder.1/{half}") is None or None)
        refused(artifact, f"{artifact / SERVED}: keys and values at encoder.1 do not match")

    @pytest.mark.parametrize("shape", [(4, 5, 8), (128,), (4, 4, 2, 4)])
    def test_keys_and_values_of_different_shapes(self, artifact, shape):
        change_tensors(artifact, lambda tensors: tensors | {"prefix/encoder.2/value": torch.zeros(shape)})
        refused(artifact, "keys and values at encoder.2 do not match")

    def test_sites_of_different_lengths(self, artifact):
        longer = {f"prefix/encoder.2/{half}": torch.zeros(4, 5, 8) for half in ("key", "value")}
        change_tensors(artifact, lambda tensors: tensors | longer)
        refused(artifact, "different lengths at different sites ([4, 5])")


class TestManifest:
    @pytest.mark.parametrize(
        "content", ["", "{", "[]", "null", '{"format_version": 1, "format_version": 2}', "[" * 100_000]
    )
    def test_no_json_of_ours(self, artifact, content):
        (artifact / MANIFEST).write_text(content)
        refused(artifact, str(artifact / MANIFEST))

    def test_not_utf8(self, artifact):
        (artifact / MANIFEST).write_bytes(b'{"format": "\xff"}')
        refused(artifact, str(artifact / MANIFEST), "utf-8")

    @pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
    def test_another_version(self, artifact, version):
        change_manifest(artifact, lambda raw: raw.update(format_version=version))
        refused(artifact, f"{artifact / MANIFEST}: format version {version!r}; this Foreword reads version 1")

    def test_no_version(self, artifact):
        change_manifest(artifact, lambda raw: raw.pop("format_version"))
        refused(artifact, "format version None")

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            (lambda raw: raw.update(surprise=1), "surprise"),
            (lambda raw: raw["backbone"].update(surprise=1), "backbone.surprise"),
            (lambda raw: raw.pop("task"), "task"),
            (lambda raw: raw.update(format="other"), "format"),
            (lambda raw: raw.update(max_length=0), "max_length"),
            (lambda raw: raw.update(max_length="many"), "max_length"),
            (lambda raw: raw["backbone"].update(dtype="load"), "backbone.dtype"),
            (lambda raw: raw["parameters"].update(backbone=0), "parameters.backbone"),
            (lambda raw: raw["metrics"]["values"].update(accuracy="NaN"), "metrics.values.accuracy"),
            (lambda raw: raw["files"].update({SERVED: {"sha256": 5, "bytes": 1}}), "files.prompt.safetensors.sha256"),
            (lambda raw: raw.update(recipe={"training": 3}), "recipe"),
            (lambda raw: raw["task"]["settings"].update(pooling="sum"), "task.settings.pooling"),
            (lambda raw: raw["task"]["settings"].update(surprise=1), "task.settings.surprise"),
            (lambda raw: raw["task"]["settings"].update(labels=["yes", "yes"]), "task.settings.labels"),
            (lambda raw: raw["method"]["settings"].update(prompt_length=0), "method.settings.prompt_length"),
            (lambda raw: raw["method"]["settings"].update(layers=1.5), "method.settings.layers"),
        ],
    )
    def test_a_field(self, artifact, change, field):
        change_manifest(artifact, change)
        refused(artifact, f"{artifact / MANIFEST}: {field}: ")

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" * 5000])
    def test_numbers_that_are_none(self, artifact, number):
        text = (artifact / MANIFEST).read_text().replace('"seconds":', f'"seconds": {number}, "was":', 1)
        (artifact / MANIFEST).write_text(text)
        refused(artifact, str(artifact / MANIFEST))

    @pytest.mark.parametrize("part", ["task", "method"])
    def test_an_unknown_type(self, artifact, part):
        change_manifest(artifact, lambda raw: raw[part].update(type="poetry"))
        refused(artifact, f"{artifact / MANIFEST}: {part}.type 'poetry' is not one of ")


class TestFit:
    def test_other_weights(self, artifact, tmp_path):
        other = tiny_backbone()
        with torch.no_grad():
            next(other.model.parameters()).view(-1)[0] += 1e-3
        unfit(artifact, "made for backbone", "differs in weights", backbone=other)

    def test_another_type_of_the_same_weights(self, artifact):
        other = tiny_backbone(dtype=torch.bfloat16)
        unfit(artifact, "differs in dtype (bfloat16 instead of float32)", backbone=other)

    def test_another_tokenizer(self, artifact, tmp_path):
        folder = tiny_backbone_folder("bert", tmp_path / "bert")
        path = folder / "tokenizer.json"
        raw = json.loads(path.read_text())
        raw["normalizer"]["lowercase"] = False
        path.write_text(json.dumps(raw))
        unfit(artifact, "differs in tokenizer", backbone=fw.load_backbone(str(folder)))

    def test_another_family(self, artifact):
        unfit(artifact, "differs in family (electra instead of bert)", backbone=tiny_backbone("electra"))

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (
                renamed("encoder.2", "encoder.9"),
                "its prompt: 'prefix/encoder.9/key' is (4, 4, 8), the backbone wants none",
            ),
            (renamed("encoder.", "decoder."), "its prompt: 'prefix/decoder.0/key'"),
            (
                lambda tensors: {n: t for n, t in tensors.items() if "encoder.2" not in n},
                "its prompt: 'prefix/encoder.2/key' is missing, the backbone wants (4, 4, 8)",
            ),
            (
                lambda tensors: {n: t[:, :3] if n.startswith("prefix") else t for n, t in tensors.items()},
                "is (4, 3, 8), the backbone wants (4, 4, 8)",
            ),
            (
                lambda tensors: {n: t[:2] if n.startswith("prefix") else t for n, t in tensors.items()},
                "is (2, 4, 8), the backbone wants (4, 4, 8)",
            ),
            (
                lambda tensors: {n: t for n, t in tensors.items() if n.startswith("head")},
                "its prompt: 'prefix/encoder.0/key' is missing",  # and no fresh one takes its place unseen
            ),
        ],
    )
    def test_the_prompt(self, artifact, change, says):
        change_tensors(artifact, change)
        unfit(artifact, says)
        with pytest.raises(ArtifactError, match="its prompt: "):
            fw.Engine(tiny_backbone(), {"one": load_artifact(artifact)}).predict([("one", {"text": "x"})])

    def test_a_prompt_where_the_method_has_none(self, tmp_path):
        artifact = copied(tmp_path, method="head-only")
        pair = {f"prefix/encoder.0/{half}": torch.ones(4, 4, 8) for half in ("key", "value")}
        change_tensors(artifact, lambda tensors: tensors | pair)
        unfit(artifact, "its prompt: 'prefix/encoder.0/key' is (4, 4, 8), the backbone wants none")

    @pytest.mark.parametrize(
        "settings",
        [
            {"prompt_length": 10**12},
            {"prompt_length": 10**30},
            {"layers": "0-999999"},
            {"layers": "0-99999999999999"},
            {"layers": "9" * 5000},
            {"layers": [10**30]},
            {"reparameterization": "mlp", "mlp_hidden": 10**15},
        ],
    )
    def test_settings_that_would_take_all_memory_take_none(self, artifact, settings):
        change_manifest(artifact, lambda raw: raw["method"]["settings"].update(settings))
        change_tensors(artifact, lambda tensors: tensors | {"prefix/encoder.0/key": torch.ones(4, 4, 8)})
        if "mlp_hidden" in settings:  # folded away, so it decides nothing that is served
            fw.Predictor(load_artifact(artifact), tiny_backbone())
        else:
            unfit(artifact)

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (
                lambda tensors: tensors | {"head/layers.4.bias": torch.zeros(3)},
                "'layers.4.bias' is (3,), expected (2,)",
            ),
            (lambda tensors: tensors | {"head/more": torch.zeros(3)}, "'more' is (3,), expected none"),
            (
                lambda tensors: tensors.pop("head/layers.4.bias") is None or None,
                "'layers.4.bias' is missing, expected (2,)",
            ),
        ],
    )
    def test_the_head(self, artifact, change, says):
        change_tensors(artifact, change)
        unfit(artifact, "its head does not fit this task and backbone", says)

    @pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
    @pytest.mark.parametrize("labels", [["a", "b", "c"], [], None])
    def test_labels_that_are_not_the_heads(self, artifact, labels):
        change_manifest(artifact, lambda raw: raw["task"]["settings"].update(labels=labels))
        unfit(artifact, "its head does not fit", "'layers.4.")

    @pytest.mark.parametrize("change", [lambda t: t.popitem() and None, lambda t: t | {"more": torch.zeros(1)}])
    def test_a_tuned_backbone_that_is_another_model(self, tuned, change):
        change_tensors(tuned, change, TUNED)
        backbone = tiny_backbone()
        before = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
        unfit(tuned, TUNED, "does not fit the backbone", backbone=backbone)
        assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.model.state_dict().items())
        assert not backbone.tuned


class TestTunedBackbones:
    """Fine-tuning changes the backbone it is given; nothing that needs the published weights works on it afterwards."""

    def test_no_prompt_is_used_on_one(self):
        backbone = tiny_backbone()
        fw.load(tiny_artifact("classification", "fine-tuning"), backbone=backbone)
        with pytest.raises(ArtifactError, match=r"fine-tuning has changed .* Load it anew"):
            fw.load(tiny_artifact(), backbone=backbone)

    def test_no_prompt_is_trained_on_one(self):
        backbone = tiny_backbone()
        train_tiny("classification", "fine-tuning", backbone)
        with pytest.raises(BackboneError, match="an earlier run has tuned the weights"):
            train_tiny("classification", "ptuning-v2", backbone)

    def test_what_was_tuned_can_be_loaded_where_it_was_trained(self, tmp_path):
        backbone = tiny_backbone()
        train_tiny("classification", "fine-tuning", backbone).save(tmp_path / "a")
        fw.load(tmp_path / "a", backbone=backbone)

    @pytest.mark.parametrize("method", ["ptuning-v2", "head-only"])
    def test_a_frozen_one_serves_many(self, method):
        backbone = tiny_backbone()
        train_tiny("classification", method, backbone)
        train_tiny("ner", "ptuning-v2", backbone)
        fw.load(tiny_artifact("qa", "ptuning-v2"), backbone=backbone)


class TestNoArtifact:
    def test_nothing_there(self, tmp_path):
        refused(tmp_path / "none", f"{tmp_path / 'none'}: no such folder")
        refused(tmp_path, f"{tmp_path}: not an artifact")
        (tmp_path / "run.json").write_text("{}")
        refused(tmp_path, "this run is not finished", "--resume")

    def test_a_file(self, tmp_path):
        (tmp_path / "file").write_text("x")
        refused(tmp_path / "file", "not an artifact")

    def test_a_name_that_no_folder_can_have(self, tmp_path):
        refused(tmp_path / ("x" * 5000), "cannot be read")


def test_every_single_byte_of_the_manifest_may_be_wrong(artifact):
    """Whatever one byte becomes, the artifact loads or is refused; nothing else comes out."""
    content = (artifact / MANIFEST).read_bytes()
    outcomes = set()
    for at in range(0, len(content), 37):
        for byte in (b"\0", b"}", b'"', b"9", b"\xff"):
            (artifact / MANIFEST).write_bytes(content[:at] + byte + content[at + 1 :])
            try:
                load_artifact(artifact)
                outcomes.add("loaded")
            except ArtifactError:
                outcomes.add("refused")
    assert outcomes == {"loaded", "refused"}


def test_every_header_byte_may_be_wrong(artifact):
    content = (artifact / SERVED).read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    refusals = 0
    for at in range(0, header, 7):
        (artifact / SERVED).write_bytes(content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :])
        fix_hash(artifact, SERVED)
        try:
            fw.Predictor(load_artifact(artifact), tiny_backbone_once())
        except ArtifactError:
            refusals += 1
    assert refusals > header // 14


def tiny_backbone_once(found=[]):  # noqa: B006  loaded once, as it is only read
    if not found:
        found.append(tiny_backbone())
    return found[0]


def test_a_stray_file_does_not_matter(artifact):
    save_file({"x": torch.zeros(1)}, artifact / "more.safetensors")
    (artifact / ".gitattributes").write_text("* binary")
    assert load_artifact(artifact).task.name == "classification"
