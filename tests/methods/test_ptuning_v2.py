from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModel, DynamicCache

from foreword.errors import MethodError
from foreword.injection import Anchor, Injection, InputPrompt, KeyValue, Prompt, Site, SiteShape
from foreword.methods import Blueprint, FoldedPrompt, PTuningV2, fold
from reference_encoders import Rows
from tiny import tiny_backbone
from tiny_prompts import TEXTS, padded, rows_of, same

SITES = {Site("encoder", layer): SiteShape(4, 8, 4) for layer in range(6)}
P, D, L = 5, 32, 6


@dataclass
class Sizes:
    """A backbone, as far as P-Tuning v2 looks at one."""

    sites: Mapping[Site, SiteShape] = field(default_factory=lambda: SITES)
    hidden_size: int = D


def built(**settings):
    torch.manual_seed(settings.pop("seed", 0))
    return PTuningV2(prompt_length=P, **settings).build(Sizes())


def layers_of(encoder):
    return [site.layer for site in encoder().prefix]


class TestSizes:
    def test_a_direct_prompt_has_two_vectors_per_position_and_layer(self):
        assert sum(p.numel() for p in built().parameters()) == P * 2 * L * D

    @pytest.mark.parametrize(
        ("length", "layers", "heads", "expected"),
        [(20, 24, 16, 983_040), (100, 24, 16, 4_915_200), (10, 24, 16, 491_520), (10, 12, 12, 184_320)],
    )
    def test_figures_of_the_papers(self, length, layers, heads, expected):
        """BERT-large twice (Liu et al. 2022), GPT-2 medium (Li & Liang 2021), GPT-2 small."""
        sites = {Site("decoder", layer): SiteShape(heads, 64, heads) for layer in range(layers)}
        encoder = PTuningV2(prompt_length=length).build(Sizes(sites, 64 * heads))
        assert sum(p.numel() for p in encoder.parameters()) == expected

    @pytest.mark.parametrize("length", [20, 128])
    def test_figures_of_the_mlp(self, length):
        """25.74 million for BERT-large, and 1,024 more per position."""
        sites = {Site("encoder", layer): SiteShape(16, 64, 16) for layer in range(24)}
        with torch.device("meta"):
            encoder = PTuningV2(prompt_length=length, reparameterization="mlp").build(Sizes(sites, 1024))
        assert sum(p.numel() for p in encoder.parameters()) == 25_739_776 + 1024 * length

    def test_a_gate_has_one_number_per_query_head(self):
        grouped = {site: SiteShape(2, 8, 4) for site in SITES}
        encoder = PTuningV2(prompt_length=P, gate=True).build(Sizes(grouped))
        assert sum(p.numel() for p in encoder.parameters()) == P * 2 * L * 16 + L * 4
        assert all(pair.gate.shape == (4,) for pair in encoder().prefix.values())

    def test_a_part_of_the_layers_has_its_part_of_the_parameters(self):
        assert sum(p.numel() for p in built(layers="4-5").parameters()) == P * 2 * 2 * D

    def test_an_mlp(self):
        columns = 2 * L * D
        expected = P * D + (D * 7 + 7) + (7 * columns + columns)
        assert sum(p.numel() for p in built(reparameterization="mlp", mlp_hidden=7).parameters()) == expected

    def test_few_key_value_heads_need_few_numbers(self):
        grouped = {site: SiteShape(2, 8, 4) for site in SITES}
        encoder = PTuningV2(prompt_length=P).build(Sizes(grouped))
        assert sum(p.numel() for p in encoder.parameters()) == P * 2 * L * 16
        assert all(pair.key.shape == pair.value.shape == (2, P, 8) for pair in encoder().prefix.values())

    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    def test_keys_and_values_are_what_attention_reads(self, reparameterization):
        prefix = built(reparameterization=reparameterization)().prefix
        assert list(prefix) == list(SITES)
        assert all(pair.key.shape == pair.value.shape == (4, P, 8) for pair in prefix.values())


class TestLayers:
    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ("all", [0, 1, 2, 3, 4, 5]),
            ("3-5", [3, 4, 5]),
            ("2", [2]),
            ("4-4", [4]),
            ([0, 2, 5], [0, 2, 5]),
            ((5, 0, 5), [0, 5]),
            ("top-2", [4, 5]),
            ("bottom-2", [0, 1]),
            ("top-6", [0, 1, 2, 3, 4, 5]),
            ("bottom-6", [0, 1, 2, 3, 4, 5]),
        ],
    )
    def test_chosen(self, layers, expected):
        assert layers_of(built(layers=layers)) == expected

    @pytest.mark.parametrize("layers", ["3-6", "6", "5-3", [6], [0, -1], [], "top-7", "bottom-7", "top-0", "bottom-0"])
    def test_layers_that_are_not_there_are_refused_with_the_range(self, layers):
        with pytest.raises(MethodError, match=r"method\.layers.*layers are 0 to 5"):
            built(layers=layers)

    @pytest.mark.parametrize(
        "layers", ["", "top", "top-", "top-x", "middle-2", "-1", "1-", "1-x", "1,2", "\u00b2", "1-\u00b2"]
    )
    def test_what_is_no_choice_of_layers(self, layers):
        with pytest.raises(MethodError, match=r"method\.layers.*neither 'all', an interval"):
            built(layers=layers)

    @pytest.mark.parametrize(
        ("layers", "encoder", "decoder"),
        [
            ("all", [0, 1, 2], [0, 1, 2, 3, 4]),
            ("top-2", [1, 2], [3, 4]),
            ("bottom-1", [0], [0]),
            ("2-4", [2], [2, 3, 4]),
            ([4], [], [4]),
        ],
    )
    def test_stacks_of_different_depth(self, layers, encoder, decoder):
        sites = {Site("encoder", layer): SiteShape(4, 8, 4) for layer in range(3)}
        sites |= {Site("decoder", layer): SiteShape(4, 8, 4) for layer in range(5)}
        prefix = PTuningV2(layers=layers).build(Sizes(sites))().prefix
        assert [site.layer for site in prefix if site.stack == "encoder"] == encoder
        assert [site.layer for site in prefix if site.stack == "decoder"] == decoder

    def test_an_end_that_is_longer_than_one_of_the_stacks(self):
        sites = SITES | {Site("decoder", 0): SiteShape(4, 8, 4)}
        with pytest.raises(MethodError, match=r"'top-2' does not fit a backbone whose layers are 0 to 0"):
            PTuningV2(layers="top-2").build(Sizes(sites))

    @pytest.mark.parametrize("layers", [1.5, None, ["a"]])
    def test_other_types_are_refused_at_once(self, layers):
        with pytest.raises(ValidationError):
            PTuningV2(layers=layers)


def pieces(matrix):
    """Keys and values by hand: per layer D columns of keys, then D of values; per head 8 of those."""
    for number, site in enumerate(SITES):
        columns = matrix[:, 2 * D * number : 2 * D * (number + 1)]
        key, value = columns[:, :D], columns[:, D:]
        yield site, [np.stack([part[:, 8 * h : 8 * h + 8] for h in range(4)]) for part in (key, value)]


class TestNumbers:
    def test_a_direct_prompt_is_its_matrix_cut_up(self):
        encoder = built().eval()
        (matrix,) = (p.detach().numpy() for p in encoder.parameters())
        prefix = encoder().prefix
        for site, (key, value) in pieces(matrix):
            assert np.array_equal(prefix[site].key.detach().numpy(), key)
            assert np.array_equal(prefix[site].value.detach().numpy(), value)

    def test_an_mlp_is_linear_tanh_linear(self):
        encoder = built(reparameterization="mlp", mlp_hidden=7, init_scale=1.0).double().eval()
        w = {name.removeprefix("prompt."): p.detach().numpy() for name, p in encoder.named_parameters()}
        hidden = np.tanh(w["embedding"] @ w["layers.0.weight"].T + w["layers.0.bias"])
        matrix = hidden @ w["layers.2.weight"].T + w["layers.2.bias"]
        prefix = encoder().prefix
        for site, (key, value) in pieces(matrix):
            np.testing.assert_allclose(prefix[site].key.detach().numpy(), key, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(prefix[site].value.detach().numpy(), value, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    def test_dropout_is_for_training_alone(self, reparameterization):
        encoder = built(reparameterization=reparameterization, dropout=0.5, init_scale=1.0)
        still = encoder.eval()().prefix[Site("encoder", 2)].key
        assert torch.equal(encoder().prefix[Site("encoder", 2)].key, still)
        dropped = encoder.train()().prefix[Site("encoder", 2)].key
        gone = dropped == 0
        assert 0.3 < gone.float().mean() < 0.7
        torch.testing.assert_close(dropped[~gone], 2 * still[~gone])

    def test_no_dropout_where_none_is_wanted(self):
        encoder = built(dropout=0.0).train()
        assert torch.equal(
            encoder().prefix[Site("encoder", 0)].value, encoder.eval()().prefix[Site("encoder", 0)].value
        )

    @pytest.mark.parametrize("scale", [0.02, 1.0])
    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    def test_the_start_is_normal_with_the_wanted_scale(self, reparameterization, scale):
        settings = PTuningV2(prompt_length=100, init_scale=scale, reparameterization=reparameterization)
        torch.manual_seed(0)
        prompt = settings.build(Sizes(hidden_size=64)).prompt
        start = prompt.weight if reparameterization == "direct" else prompt.embedding
        # 6400 numbers or more: their standard deviation is known to about 1 %, their mean to 0.013 of it.
        assert start.std().item() == pytest.approx(scale, rel=0.05)
        assert abs(start.mean().item()) < 0.05 * scale
        assert start.abs().max() > 3 * scale

    def test_torchs_seed_decides_the_start(self):
        one, same, other = (built(seed=seed).prompt.weight for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


class TestFold:
    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    def test_keeps_the_numbers_without_dropout_and_leaves_the_encoder_training(self, reparameterization):
        encoder = built(reparameterization=reparameterization, dropout=0.5).train()
        folded = fold(encoder)
        assert encoder.training
        expected = encoder.eval()().prefix
        for site, pair in folded.prefix.items():
            assert torch.equal(pair.key, expected[site].key)
            assert torch.equal(pair.value, expected[site].value)
            assert not pair.key.requires_grad

    def test_a_folded_prompt_has_nothing_to_train_and_shares_no_memory(self):
        encoder = built(dropout=0.0)
        prompt = FoldedPrompt(fold(encoder))
        before = {site: pair.key.clone() for site, pair in prompt().prefix.items()}
        with torch.no_grad():
            encoder.prompt.weight.add_(1)
        assert list(prompt.parameters()) == []
        assert before.keys() == SITES.keys()
        assert all(torch.equal(prompt().prefix[site].key, key) for site, key in before.items())


def test_default_rates_depend_on_the_reparameterization():
    direct, mlp = (PTuningV2(reparameterization=kind).default_learning_rate for kind in ("direct", "mlp"))
    assert direct > mlp > 0


@pytest.mark.parametrize(
    "bad", [{"prompt_length": 0}, {"dropout": 1.0}, {"init_scale": 0}, {"reparameterization": "lstm"}, {"length": 3}]
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        PTuningV2(**bad)


class Bert(Rows):
    """BERT, with what each of its layers is given in ``seen``."""

    def hidden(self, ids, types, prefix, shift=0):
        self.seen = []
        return self.row(self.weights[self.words][ids], types, prefix, shift=shift)

    def run(self, x, types, positions):
        x = x + self.weights["embeddings.position_embeddings.weight"][positions]
        x = self.norm(x + self.weights["embeddings.token_type_embeddings.weight"][types], "embeddings.LayerNorm")
        for layer in range(self.layers):
            self.seen.append(x)
            name = f"encoder.layer.{layer}"
            parts = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
            read = self.linear(self.attention(x, layer, parts), f"{name}.attention.output.dense")
            x = self.feed_forward(self.norm(x + read, f"{name}.attention.output.LayerNorm"), name)
        return x

    def key_value(self, x, layer):
        return [self.split(self.linear(x, f"encoder.layer.{layer}.attention.self.{p}")) for p in ("key", "value")]

    def activations(self, ids):
        """Keys and values of a text without special tokens."""
        self.hidden(torch.tensor(ids), torch.zeros(len(ids), dtype=torch.long), {})
        return [self.key_value(x, layer) for layer, x in enumerate(self.seen)]


class Roberta(Bert):
    first_position = 2


def bert():
    backbone = tiny_backbone("bert", dtype=torch.float64)
    return backbone, Bert(backbone.name)


def rows_by_hand(reference, inputs, prompts, shift=0):
    return [
        reference.hidden(row[real.bool()], types[real.bool()], prompt.prefix, shift)
        for row, real, types, prompt in zip(*inputs, prompts, strict=True)
    ]


def double(settings, backbone, seed=1):
    torch.manual_seed(seed)
    return PTuningV2(**{"dropout": 0.0, "init_scale": 1.0, **settings}).build(backbone).double()


class TestGate:
    def test_starts_as_the_bare_model(self):
        backbone, _ = bert()
        encoder, inputs = double({"gate": True}, backbone), padded(backbone)
        bare, gated = backbone(*inputs), backbone(*inputs, Injection([encoder()]))
        real = inputs[1].bool()
        torch.testing.assert_close(gated[real], bare[real], rtol=0, atol=1e-12)
        open_ = double({}, backbone)
        assert (backbone(*inputs, Injection([open_()])) - bare)[real].abs().max() > 0.1

    def test_a_closed_gate_can_open(self):
        backbone, _ = bert()
        encoder = double({"gate": True}, backbone)
        backbone(*padded(backbone), Injection([encoder()])).pow(2).sum().backward()
        assert (encoder.gate.grad.abs() > 1e-6).all()
        assert encoder.prompt.weight.grad.abs().max() == 0

    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    def test_two_softmaxes_by_hand(self, reparameterization):
        backbone, reference = bert()
        encoder = double({"gate": True, "reparameterization": reparameterization, "mlp_hidden": 6}, backbone)
        with torch.no_grad():
            encoder.gate.normal_()
        inputs = padded(backbone)
        expected = rows_by_hand(reference, inputs, [encoder()] * len(TEXTS))
        found = rows_of(backbone(*inputs, Injection([encoder()])), inputs[1])
        same(found, expected)
        generator = torch.Generator().manual_seed(5)
        weights = [torch.randn(e.shape, generator=generator, dtype=torch.float64) for e in expected]
        parameters = list(encoder.parameters())
        gradients = [
            torch.autograd.grad(sum((h * w).sum() for h, w in zip(side, weights, strict=True)), parameters)
            for side in (found, expected)
        ]
        assert all(gradient.abs().max() > 1e-6 for gradient in gradients[1])
        same(*gradients, tolerance=1e-9)

    def test_rows_with_and_without_gates_share_a_batch(self):
        backbone, reference = bert()
        settings = [
            {"gate": True, "prompt_length": 5},
            {"prompt_length": 2},
            {"gate": True, "prompt_length": 3, "layers": "top-1"},
            {"prompt_length": 4, "layers": "bottom-2"},
        ]
        encoders = [double(one, backbone, seed) for seed, one in enumerate(settings)]
        for encoder in (encoders[0], encoders[2]):
            encoder.gate.data.normal_()
        prompts = [*(fold(encoder) for encoder in encoders), Prompt()]
        inputs, rows = padded(backbone), [0, 4, 1, 2, 3, 0]
        mixed = rows_of(backbone(*inputs, Injection(prompts, torch.tensor(rows))), inputs[1])
        alone = [
            backbone(*(part[number : number + 1] for part in inputs), Injection([prompts[row]]))[0]
            for number, row in enumerate(rows)
        ]
        same(mixed, [states[real.bool()] for states, real in zip(alone, inputs[1], strict=True)])
        same(mixed, rows_by_hand(reference, inputs, [prompts[row] for row in rows]))


class TestShiftedPositions:
    def test_are_off_until_asked_for(self):
        assert not built()().shift_positions
        assert PTuningV2().positions_taken == 0
        assert PTuningV2(prompt_length=7, shift_positions=True).positions_taken == 7

    @pytest.mark.parametrize(("family", "kind"), [("bert", Bert), ("roberta", Roberta)])
    def test_begin_after_the_prefix(self, family, kind):
        backbone = tiny_backbone(family, dtype=torch.float64)
        encoder = double({"shift_positions": True, "prompt_length": 5}, backbone)
        inputs, reference = padded(backbone), kind(backbone.name)
        found = rows_of(backbone(*inputs, Injection([encoder()])), inputs[1])
        same(found, rows_by_hand(reference, inputs, [encoder()] * len(TEXTS), shift=5))
        assert (found[0] - rows_by_hand(reference, inputs, [encoder()] * len(TEXTS))[0]).abs().max() > 1e-3

    @pytest.mark.parametrize("family", ["gpt2", "llama"])
    def test_are_those_of_a_cache(self, family):
        """transformers counts on after the keys and values that it is handed as the past."""
        backbone = tiny_backbone(family)
        torch.manual_seed(0)
        encoder = PTuningV2(prompt_length=5, shift_positions=True, dropout=0, init_scale=1.0).build(backbone)
        plain = AutoModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
        ids = torch.tensor([backbone.tokenizer("Anna visited London.")["input_ids"]])
        cache = DynamicCache()
        for site, pair in encoder().prefix.items():
            cache.update(pair.key[None], pair.value[None], site.layer)
        with torch.no_grad():
            expected = plain(input_ids=ids, past_key_values=cache).last_hidden_state
            found = backbone(ids, torch.ones_like(ids), None, Injection([encoder()]))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


TEXT = "the good movie was boring"


def ids_of(backbone, text=TEXT):
    return backbone.tokenizer(text, add_special_tokens=False)["input_ids"]


def from_text(backbone, length, **settings):
    settings = {"init": "text", "init_text": TEXT, **settings}
    return PTuningV2(prompt_length=length, **settings).build(backbone).double()


def assert_is(prefix, expected, tolerance=1e-6):
    """``prefix`` against keys and values per layer."""
    assert len(prefix) == len(expected)
    for pair, (key, value) in zip(prefix.values(), expected, strict=True):
        torch.testing.assert_close(pair.key, key, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(pair.value, value, rtol=tolerance, atol=tolerance)


class TestRealTokens:
    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    @pytest.mark.parametrize("length", [3, 5, 13])
    def test_of_a_text_cut_or_repeated(self, length, reparameterization):
        """Keys and values of a plain BERT over these tokens, at every layer."""
        backbone, reference = bert()
        ids = (ids_of(backbone) * 3)[:length]
        assert len(ids_of(backbone)) == 5
        tolerance = 1e-6 if reparameterization == "direct" else 1e-5
        encoder = from_text(backbone, length, reparameterization=reparameterization).eval()
        assert_is(encoder().prefix, reference.activations(ids), tolerance)

    def test_the_first_layer_is_one_projection_away_from_the_embeddings(self):
        backbone, _ = bert()
        w = {name: tensor.detach().numpy() for name, tensor in backbone.model.named_parameters()}
        ids = ids_of(backbone)
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
        x = x + w["embeddings.token_type_embeddings.weight"][0]
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-12)
        x = x * w["embeddings.LayerNorm.weight"] + w["embeddings.LayerNorm.bias"]
        pair = from_text(backbone, len(ids)).eval()().prefix[Site("encoder", 0)]
        for part, found in (("key", pair.key), ("value", pair.value)):
            name = f"encoder.layer.0.attention.self.{part}"
            flat = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
            by_head = np.stack([flat[:, 8 * h : 8 * h + 8] for h in range(4)])
            np.testing.assert_allclose(found.detach().numpy(), by_head, rtol=1e-5, atol=1e-6)

    def test_of_some_layers(self):
        backbone, reference = bert()
        prefix = from_text(backbone, 5, layers="top-1").eval()().prefix
        assert list(prefix) == [Site("encoder", 2)]
        assert_is(prefix, reference.activations(ids_of(backbone))[2:])

    @pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "bart"])
    def test_at_every_site_of_other_families(self, family):
        """The text itself, attended to as a prefix by nobody but itself: what the backbone says it computed."""
        encoder_decoder = family in ("t5", "bart")
        backbone = tiny_backbone(family, language_model=encoder_decoder)
        prefix = from_text(backbone, 4).float().eval()().prefix
        expected = backbone.activations((ids_of(backbone) * 4)[:4])
        assert list(prefix) == list(backbone.sites) == list(expected)
        assert {site.stack for site in prefix} == ({"encoder", "decoder", "cross"} if encoder_decoder else {"decoder"})
        assert all(torch.equal(pair.key, expected[site].key) for site, pair in prefix.items())
        assert all(torch.equal(pair.value, expected[site].value) for site, pair in prefix.items())

    def test_sampled_from_the_vocabulary(self):
        backbone, reference = bert()
        torch.manual_seed(3)
        encoder = PTuningV2(prompt_length=6, init="vocabulary").build(backbone).double().eval()
        key = encoder().prefix[Site("encoder", 0)].key
        ids = torch.arange(len(backbone.tokenizer))
        drawn = []
        for place in range(6):  # every token of the vocabulary at this place
            x = reference.weights[reference.words][ids]
            x = x + reference.weights["embeddings.position_embeddings.weight"][place]
            x = x + reference.weights["embeddings.token_type_embeddings.weight"][0]
            keys, _ = reference.key_value(reference.norm(x, "embeddings.LayerNorm"), 0)
            found = (keys - key[:, place, None]).abs().amax((0, 2)) < 1e-5
            assert found.sum() == 1
            drawn.append(int(found.nonzero()))
        assert len(set(drawn)) == 6
        assert not set(drawn) & set(backbone.tokenizer.all_special_ids)

    def test_the_seed_decides_the_sample(self):
        backbone = tiny_backbone()

        def drawn(seed):
            torch.manual_seed(seed)
            return PTuningV2(init="vocabulary").build(backbone).prompt.weight

        assert torch.equal(drawn(1), drawn(1))
        assert not torch.equal(drawn(1), drawn(2))

    def test_a_blueprint_needs_no_numbers(self):
        blueprint = Blueprint(tiny_backbone())
        assert fold(PTuningV2(init="vocabulary", reparameterization="mlp").build(blueprint)).length == 20
        with torch.device("meta"):
            prefix = fold(from_text(blueprint, 3)).prefix
        assert all(pair.key.is_meta and pair.key.shape == (4, 3, 8) for pair in prefix.values())

    def test_a_text_without_tokens(self):
        with pytest.raises(MethodError, match=r"method\.init_text"):
            PTuningV2(init="text", init_text=" ").build(tiny_backbone())

    def test_a_backbone_that_reads_images(self):
        with pytest.raises(MethodError, match="has no words to start from"):
            PTuningV2(init="vocabulary").build(tiny_backbone("vit"))

    @pytest.mark.parametrize("bad", [{"init": "text"}, {"init_text": "x"}, {"init": "labels"}])
    def test_settings_that_do_not_go_together(self, bad):
        with pytest.raises(ValidationError):
            PTuningV2(**bad)


def folded(length=P, seed=9, **settings):
    torch.manual_seed(seed)
    return fold(PTuningV2(prompt_length=length, init_scale=1.0, **settings).build(Sizes()))


class TestStartFrom:
    @pytest.mark.parametrize("reparameterization", ["direct", "mlp"])
    @pytest.mark.parametrize("length", [P - 2, P, P + 3])
    def test_another_prompt_fills_the_first_positions(self, length, reparameterization):
        encoder, given = built(reparameterization=reparameterization, init_scale=1.0), folded(length)
        before = fold(encoder)
        encoder.start_from(given)
        after, rows = fold(encoder), min(length, P)
        tolerance = 0 if reparameterization == "direct" else 1e-5
        for site in SITES:
            for part in (0, 1):
                new, old, source = (prompt.prefix[site][part] for prompt in (after, before, given))
                torch.testing.assert_close(new[:, :rows], source[:, :rows], rtol=tolerance, atol=tolerance)
                torch.testing.assert_close(new[:, rows:], old[:, rows:], rtol=tolerance, atol=tolerance)

    def test_an_mlp_starts_with_moderate_weights(self):
        """Embeddings of 0.02 lie so close that only huge weights could tell them apart."""
        encoder = built(reparameterization="mlp")
        encoder.start_from(folded())
        assert encoder.prompt.layers[2].weight.std() < 0.3
        assert encoder.prompt.embedding.std().item() == pytest.approx(1.0, rel=1e-4)

    def test_an_mlp_that_is_too_narrow_comes_as_near_as_it_can(self):
        encoder = built(reparameterization="mlp", mlp_hidden=2).double()
        given = folded()
        encoder.start_from(given)
        target = torch.cat([part.transpose(0, 1).flatten(1) for pair in given.prefix.values() for part in pair[:2]], 1)
        matrix, hidden = encoder.prompt().detach(), encoder.prompt.layers[:2](encoder.prompt.embedding).detach()
        residual = target.double() - matrix
        assert 0.01 < residual.pow(2).mean() < target.var()
        # The error of least squares is at right angles to all it could have used.
        assert (hidden.T @ residual).abs().max() < 1e-8
        assert residual.sum(0).abs().max() < 1e-8

    def test_layers_that_only_one_of_them_covers(self):
        encoder, given = built(layers="2-4"), folded(layers="4-5")
        before = fold(encoder)
        encoder.start_from(given)
        after = fold(encoder)
        assert torch.equal(after.prefix[Site("encoder", 4)].key, given.prefix[Site("encoder", 4)].key)
        for layer in (2, 3):
            assert torch.equal(after.prefix[Site("encoder", layer)].key, before.prefix[Site("encoder", layer)].key)

    def test_gates_come_along(self):
        encoder, given = built(gate=True), folded(gate=True)
        given = given.map(torch.randn_like)
        encoder.start_from(given)
        assert all(torch.equal(pair.gate, given.prefix[site].gate) for site, pair in encoder().prefix.items())

    @pytest.mark.parametrize(
        ("settings", "given", "says"),
        [
            ({"layers": "0-1"}, {"layers": "2-3"}, "covers encoder.2, encoder.3, and this one encoder.0, encoder.1"),
            ({"gate": True}, {}, "this one has a gate, the one to start from has not"),
            ({}, {"gate": True}, "the one to start from has a gate, this one has not"),
            ({}, {"shift_positions": True}, "the one to start from has shifted positions, this one has not"),
        ],
    )
    def test_another_kind_is_refused(self, settings, given, says):
        with pytest.raises(MethodError, match=says):
            built(**settings).start_from(folded(**given))

    def test_other_heads_are_refused(self):
        pair = KeyValue(torch.zeros(2, P, 16), torch.zeros(2, P, 16))
        with pytest.raises(MethodError, match=r"2 heads of 16 numbers at encoder\.0, the backbone 4 of 8"):
            built().start_from(Prompt({Site("encoder", 0): pair}))

    def test_vectors_are_refused(self):
        vectors = InputPrompt(torch.zeros(1, D), (Anchor.FRONT,))
        for prompt in (Prompt(inputs=vectors), Prompt(folded().prefix, vectors), Prompt()):
            with pytest.raises(MethodError, match="cannot start from"):
                built().start_from(prompt)
