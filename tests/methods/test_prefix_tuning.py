"""Prefix-tuning: its sizes, its three sets, its ablations, against the papers' figures and forward passes by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModel

from by_hand import Decoder, EncoderDecoder, exactness
from foreword.errors import MethodError
from foreword.injection import Anchor, Injection, KeyValue, Prompt, Site, SiteShape
from foreword.methods import PrefixTuning, PromptTuning, PTuningV2, fold
from tiny import tiny_backbone
from tiny_prompts import TEXTS, padded, rows_of, same


@dataclass
class Sizes:
    """A backbone, as far as prefix-tuning looks at one."""

    sites: Mapping[Site, SiteShape]
    hidden_size: int
    embedding_size: int = 0


def sites_of(layers, heads, stacks=("decoder",)):
    return {Site(stack, layer): SiteShape(heads, 64, heads) for stack in stacks for layer in range(layers)}


def sizes(settings, backbone):
    """Trained and kept numbers."""
    with torch.device("meta"):
        encoder = PrefixTuning(**settings).build(backbone)
    kept = []
    fold(encoder).map(lambda tensor: kept.append(tensor.numel()) or tensor)
    return sum(p.numel() for p in encoder.parameters()), sum(kept)


class TestFiguresOfThePaper:
    def test_gpt2_medium(self):
        """25.75 million trained, 0.49 million kept."""
        trained, kept = sizes({"prompt_length": 10}, Sizes(sites_of(24, 16), 1024))
        assert trained == 10 * 1024 + (1024 * 512 + 512) + (512 * 49_152 + 49_152) == 25_750_016
        assert kept == 491_520

    def test_bart_large(self):
        """62.1 million trained, 14.7 million kept: three sets, each with an embedding and an MLP of its own."""
        stacks = sites_of(12, 16, ("encoder", "decoder", "cross"))
        trained, kept = sizes({"prompt_length": 200, "mlp_hidden": 800}, Sizes(stacks, 1024))
        assert trained == 3 * (200 * 1024 + (1024 * 800 + 800) + (800 * 24_576 + 24_576)) == 62_130_528
        assert kept == 14_745_600

    def test_without_the_mlp_all_that_is_trained_is_kept(self):
        settings = {"prompt_length": 10, "reparameterization": "direct"}
        assert sizes(settings, Sizes(sites_of(24, 16), 1024)) == (491_520, 491_520)

    def test_embeddings_alone(self):
        backbone = Sizes(sites_of(24, 16), 1024, embedding_size=1024)
        trained, kept = sizes({"prompt_length": 10, "embedding_only": True}, backbone)
        assert trained == 10 * 1024 + (1024 * 512 + 512) + (512 * 1024 + 1024)
        assert kept == 10 * 1024


def test_defaults_are_the_authors():
    method = PrefixTuning()
    assert (method.mlp_hidden, method.dropout, method.reparameterization) == (512, 0.0, "mlp")
    assert method.default_learning_rate == 5e-5
    assert (method.positions_taken, PrefixTuning(prompt_length=7, shift_positions=True).positions_taken) == (0, 7)
    torch.manual_seed(0)
    (encoder,) = PrefixTuning(prompt_length=100).build(tiny_backbone("gpt2")).sets.values()
    assert encoder.prompt.embedding.std().item() == pytest.approx(1.0, rel=0.05)
    assert encoder.prompt.layers[0].weight.abs().max() <= 32**-0.5


@pytest.mark.parametrize(
    "bad",
    [
        {"embedding_only": True, "placement": "infix"},
        {"embedding_only": True, "shift_positions": True},
        {"init": "text"},
        {"init_text": "x"},
        {"placement": "suffix"},
        {"gate": True},
    ],
)
def test_settings_that_do_not_go_together(bad):
    with pytest.raises(ValidationError):
        PrefixTuning(**bad)


@pytest.mark.parametrize("family", ["t5", "bart"])
class TestThreeSets:
    def built(self, family, **settings):
        torch.manual_seed(0)
        backbone = tiny_backbone(family, language_model=True)
        return backbone, PrefixTuning(prompt_length=3, **settings).build(backbone)

    def test_each_set_makes_the_sites_of_its_stack(self, family):
        backbone, encoder = self.built(family)
        before = fold(encoder)
        assert before.prefix.keys() == backbone.sites.keys()
        assert set(encoder.sets) == {"encoder", "decoder", "cross"}
        for stack, one in encoder.sets.items():
            with torch.no_grad():
                one.prompt.embedding.add_(1)
            after = fold(encoder)
            changed = {
                site for site in after.prefix if not torch.equal(after.prefix[site].key, before.prefix[site].key)
            }
            assert changed == {site for site in backbone.sites if site.stack == stack}
            before = after

    def test_by_hand(self, family):
        """Linear, tanh, linear over each set's own embedding; per layer keys, then values."""
        backbone, encoder = self.built(family, mlp_hidden=7)
        prefix = encoder.double()().prefix
        for stack, one in encoder.sets.items():
            w = {name.removeprefix("prompt."): p.detach().numpy() for name, p in one.named_parameters()}
            hidden = np.tanh(w["embedding"] @ w["layers.0.weight"].T + w["layers.0.bias"])
            matrix = hidden @ w["layers.2.weight"].T + w["layers.2.bias"]
            sites = [site for site in backbone.sites if site.stack == stack]
            for number, part in enumerate(np.split(matrix, 2 * len(sites), axis=1)):
                shape = backbone.sites[sites[number // 2]]
                by_head = part.reshape(3, shape.heads, shape.head_size).transpose(1, 0, 2)
                found = prefix[sites[number // 2]][number % 2].detach().numpy()
                np.testing.assert_allclose(found, by_head, rtol=1e-12, atol=1e-14)

    def test_the_encoder_alone_has_one(self, family):
        encoder = PrefixTuning().build(tiny_backbone(family))
        assert set(encoder.sets) == {"encoder"}

    def test_they_are_read_in_both_halves(self, family):
        backbone = tiny_backbone(family, dtype=torch.float64, language_model=True)
        torch.manual_seed(0)
        encoder = PrefixTuning(prompt_length=3).build(backbone).double()
        reference, tolerance = EncoderDecoder(backbone), exactness(family)
        ids, mask, _ = padded(backbone, TEXTS[:2])
        prompt = encoder()
        expected = [
            reference.encode(reference.embed(row[real.bool()]), prompt) for row, real in zip(ids, mask, strict=True)
        ]
        same(rows_of(backbone(ids, mask, None, Injection([prompt])), mask), expected, tolerance)

    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    def test_start_from_real_words(self, family, reparameterization):
        settings = {"init": "text", "init_text": "Anna visited London", "reparameterization": reparameterization}
        backbone, encoder = self.built(family, **settings)
        ids = backbone.tokenizer("Anna visited London", add_special_tokens=False)["input_ids"][:3]
        expected, found = backbone.activations(ids), fold(encoder).prefix
        for site in backbone.sites:
            torch.testing.assert_close(found[site].key, expected[site].key, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found[site].value, expected[site].value, rtol=1e-5, atol=1e-5)

    def test_a_prompt_of_the_encoder_starts_the_encoder(self, family):
        backbone, encoder = self.built(family)
        before = fold(encoder)
        given = fold(PTuningV2(prompt_length=3, init_scale=1.0).build(tiny_backbone(family)))
        assert {site.stack for site in given.prefix} == {"encoder"}
        encoder.start_from(given)
        after = fold(encoder)
        for site in backbone.sites:
            expected = given if site.stack == "encoder" else before
            torch.testing.assert_close(after.prefix[site].key, expected.prefix[site].key, rtol=1e-5, atol=1e-5)


def test_the_first_layer_of_real_words_by_hand():
    """GPT-2: one normalization and one projection away from embeddings and positions."""
    backbone = tiny_backbone("gpt2", dtype=torch.float64)
    text = "Anna visited London"
    ids = backbone.tokenizer(text, add_special_tokens=False)["input_ids"]
    method = PrefixTuning(prompt_length=len(ids), init="text", init_text=text)
    pair = fold(method.build(backbone)).prefix[Site("decoder", 0)]
    w = {name: p.detach().numpy() for name, p in backbone.trunk.named_parameters()}
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    x = x * w["h.0.ln_1.weight"] + w["h.0.ln_1.bias"]
    projected = x @ w["h.0.attn.c_attn.weight"] + w["h.0.attn.c_attn.bias"]
    _, key, value = np.split(projected, 3, axis=1)
    shape = backbone.sites[Site("decoder", 0)]
    for found, flat in ((pair.key, key), (pair.value, value)):
        by_head = flat.reshape(len(ids), shape.heads, shape.head_size).transpose(1, 0, 2)
        np.testing.assert_allclose(found.numpy(), by_head, rtol=1e-5, atol=1e-5)


class TestInfix:
    @pytest.mark.parametrize("family", ["gpt2", "llama"])
    def test_is_read_from_the_last_given_token_on(self, family):
        backbone = tiny_backbone(family, dtype=torch.float64)
        torch.manual_seed(0)
        encoder = PrefixTuning(prompt_length=3, placement="infix").build(backbone).double()
        ids, mask, _ = padded(backbone, TEXTS[:3])
        prompt, reference = encoder(), Decoder(backbone)
        found = rows_of(backbone(ids, mask, None, Injection([prompt])), mask)
        rows = [row[real.bool()] for row, real in zip(ids, mask, strict=True)]
        same(found, [reference.row(reference.embed(row), prompt, len(row)) for row in rows], exactness(family))
        bare = rows_of(backbone(ids, mask), mask)
        same([states[:-1] for states in found], [states[:-1] for states in bare], exactness(family))
        assert all((ours[-1] - theirs[-1]).abs().max() > 1e-3 for ours, theirs in zip(found, bare, strict=True))

    @pytest.mark.parametrize(
        ("family", "language_model"), [("bert", False), ("t5", True), ("bart", True), ("t5", False)]
    )
    def test_is_for_decoders(self, family, language_model):
        backbone = tiny_backbone(family, language_model=language_model)
        with pytest.raises(MethodError, match=r"method\.placement: an infix .* which only a decoder reads"):
            PrefixTuning(placement="infix").build(backbone)

    def test_does_not_start_from_a_prefix(self):
        backbone = tiny_backbone("gpt2")
        with pytest.raises(MethodError, match="this one has the place of an infix"):
            PrefixTuning(placement="infix").build(backbone).start_from(fold(PrefixTuning().build(backbone)))


class TestEmbeddingsAlone:
    def test_stand_before_the_text(self):
        backbone = tiny_backbone("gpt2", dtype=torch.float64)
        torch.manual_seed(0)
        method = PrefixTuning(prompt_length=4, embedding_only=True)
        prompt = method.build(backbone).double()()
        assert method.positions_taken == 4
        assert prompt.prefix == {}
        assert prompt.inputs.anchors == (Anchor.FRONT,) * 4
        ids, mask, _ = padded(backbone, [TEXTS[0]])
        plain = AutoModel.from_pretrained(backbone.name, attn_implementation="eager", dtype=torch.float64).eval()
        embeddings = torch.cat([prompt.inputs.vectors, plain.get_input_embeddings()(ids[0])])[None]
        expected = plain(inputs_embeds=embeddings).last_hidden_state[:, 4:]
        same([backbone(ids, mask, None, Injection([prompt]))], [expected])

    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    def test_start_from_the_embeddings_of_real_words(self, reparameterization):
        backbone = tiny_backbone()
        settings = {"embedding_only": True, "init": "text", "init_text": "the good movie"}
        method = PrefixTuning(prompt_length=5, reparameterization=reparameterization, **settings)
        table = backbone.model.get_input_embeddings().weight
        ids = backbone.tokenizer("the good movie the good", add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(fold(method.build(backbone)).inputs.vectors, table[ids], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("length", [2, 4, 6])
    def test_start_from_prompt_tuning(self, length):
        backbone = tiny_backbone()
        given = fold(PromptTuning(prompt_length=length).build(backbone))
        encoder = PrefixTuning(prompt_length=4, embedding_only=True).build(backbone)
        before, rows = fold(encoder), min(length, 4)
        encoder.start_from(given)
        after = fold(encoder).inputs.vectors
        torch.testing.assert_close(after[:rows], given.inputs.vectors[:rows], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(after[rows:], before.inputs.vectors[rows:], rtol=1e-5, atol=1e-5)

    def test_other_prompts_are_no_start(self):
        backbone = tiny_backbone()
        encoder = PrefixTuning(embedding_only=True).build(backbone)
        prefix = {Site("encoder", 0): KeyValue(torch.zeros(4, 2, 8), torch.zeros(4, 2, 8))}
        for prompt in (Prompt(prefix), Prompt()):
            with pytest.raises(MethodError, match="vectors before the text cannot start from"):
                encoder.start_from(prompt)
        narrow = fold(PromptTuning().build(tiny_backbone("electra")))
        with pytest.raises(MethodError, match="vectors of 16 numbers, the backbone embeddings of 32"):
            encoder.start_from(narrow)

    def test_images_have_no_embeddings(self):
        with pytest.raises(MethodError, match="reads images"):
            PrefixTuning(embedding_only=True).build(tiny_backbone("vit"))
