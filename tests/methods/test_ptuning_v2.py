from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from foreword.errors import MethodError
from foreword.injection import Site, SiteShape
from foreword.methods import FoldedPrompt, PTuningV2, fold

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
        ],
    )
    def test_chosen(self, layers, expected):
        assert layers_of(built(layers=layers)) == expected

    @pytest.mark.parametrize("layers", ["3-6", "6", "5-3", [6], [0, -1], []])
    def test_layers_that_are_not_there_are_refused_with_the_range(self, layers):
        with pytest.raises(MethodError, match=r"method\.layers.*layers are 0 to 5"):
            built(layers=layers)

    @pytest.mark.parametrize("layers", ["", "top", "-1", "1-", "1-x", "1,2", "\u00b2", "1-\u00b2"])
    def test_what_is_no_choice_of_layers(self, layers):
        with pytest.raises(MethodError, match=r"method\.layers.*neither 'all', an interval"):
            built(layers=layers)

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
