"""The seam, against an encoder written out by hand in float64 that shares no line with it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from foreword.backbones.call import extend_mask
from foreword.injection import Injection, Prompt, Site
from tiny import tiny_backbone
from tiny_prompts import EVERY, ROWS, TEXTS, bank, leaves, padded, prompt, rows_of, same


@pytest.fixture
def family(encoder_family):
    """Every family of encoders in turn."""
    return encoder_family


def exactness(family):
    """How far float64 may be off: these models round to float32 inside, whatever they are given."""
    return {"deberta": 1e-5, "modernbert": 1e-5}.get(family, 1e-12)


class Reference:
    """BERT and RoBERTa as their papers describe them, one row at a time and without any padding."""

    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {name: t.double() for name, t in load_file(folder / "model.safetensors").items()}

    def linear(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / ((x**2).mean(-1, keepdim=True) + self.config["layer_norm_eps"]).sqrt()
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def heads(self, x):
        return x.reshape(x.shape[0], self.config["num_attention_heads"], -1).permute(1, 0, 2)

    def attention(self, x, name, pair):
        query, key, value = (self.heads(self.linear(x, f"{name}.self.{part}")) for part in ("query", "key", "value"))
        if pair is not None:
            key, value = torch.cat([pair.key, key], 1), torch.cat([pair.value, value], 1)
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
        weights = (scores - scores.max(-1, keepdim=True).values).exp()
        weights = weights / weights.sum(-1, keepdim=True)
        mixed = (weights @ value).permute(1, 0, 2).reshape(x.shape)
        return self.norm(x + self.linear(mixed, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def row(self, ids, positions, types, prefix):
        x = self.weights["embeddings.word_embeddings.weight"][ids]
        x = x + self.weights["embeddings.position_embeddings.weight"][positions]
        x = x + self.weights["embeddings.token_type_embeddings.weight"][types]
        x = self.norm(x, "embeddings.LayerNorm")
        for layer in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{layer}"
            x = self.attention(x, f"{name}.attention", prefix.get(Site("encoder", layer)))
            inner = self.linear(x, f"{name}.intermediate.dense")
            inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
            x = self.norm(x + self.linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return x

    def batch(self, ids, mask, types, prefixes):
        """Hidden states of the real tokens only, one tensor per row."""
        hidden = []
        for row_ids, row_mask, row_types, prefix in zip(ids, mask, types, prefixes, strict=True):
            real = row_mask.bool()
            positions = torch.arange(int(real.sum()))
            if self.config["model_type"] == "roberta":
                positions = self.config["pad_token_id"] + 1 + positions
            hidden.append(self.row(row_ids[real], positions, row_types[real], prefix))
        return hidden


def agree(backbone, inputs, prefixes, rows):
    """The backbone and the reference: same hidden states, same gradients for every key and value."""
    ids, mask, types = inputs
    reference = Reference(Path(backbone.name))
    expected = reference.batch(ids, mask, types, [prefixes[row].prefix for row in rows])
    indices = None if len(prefixes) == 1 else torch.tensor(rows)
    found = rows_of(backbone(ids, mask, types, Injection(prefixes, indices)), mask)
    same(found, expected)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(e.shape, generator=generator, dtype=torch.float64) for e in expected]
    gradients = [
        torch.autograd.grad(sum((h * w).sum() for h, w in zip(hidden, weights, strict=True)), leaves(prefixes))
        for hidden in (found, expected)
    ]
    assert all(gradient.abs().max() > 1e-6 for gradient in gradients[1])
    same(*gradients)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
class TestAgainstTheReference:
    def test_one_prompt_for_all_rows(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        agree(backbone, padded(backbone, side=side), [prompt(4, EVERY, seed=1)], [0] * len(TEXTS))

    def test_one_prompt_for_rows_without_padding(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        inputs = padded(backbone, [TEXTS[1]] * 2, side=side)
        assert inputs[1].all()
        agree(backbone, inputs, [prompt(4, EVERY, seed=1)], [0, 0])

    def test_prompts_of_different_lengths(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        agree(backbone, padded(backbone, side=side), bank(), ROWS)

    def test_prompts_of_different_lengths_without_padding(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        agree(backbone, padded(backbone, [TEXTS[1]] * 3, side=side), bank(), [1, 2, 0])

    def test_prompts_that_cover_some_layers(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        agree(backbone, padded(backbone, side=side), bank(({0, 2}, {1}, EVERY)), ROWS)

    def test_a_layer_that_no_prompt_covers(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        agree(backbone, padded(backbone, side=side), bank(({0}, {2}, {0, 2})), ROWS)

    def test_prompts_of_one_length_that_cover_different_layers(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        prefixes = [prompt(3, {0, 1}, seed=1), prompt(3, {1, 2}, seed=2)]
        agree(backbone, padded(backbone, side=side), prefixes, [0, 1, 1, 0, 1, 0])


def test_without_a_prompt_the_backbone_is_the_plain_model(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    attention = "sdpa" if family == "modernbert" else "eager"  # its eager attention overflows in float64
    plain = AutoModel.from_pretrained(backbone.name, attn_implementation=attention, dtype=torch.float64).eval()
    ids, mask, types = padded(backbone)
    expected = plain(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
    tolerance = 1e-5 if "deberta" in family else 1e-10  # their scale is a float32
    same(rows_of(backbone(ids, mask, types), mask), rows_of(expected, mask), tolerance)


def test_a_prompt_without_sites_changes_nothing(family):
    backbone = tiny_backbone(family)
    ids, mask, types = padded(backbone)
    assert torch.equal(backbone(ids, mask, types, Injection([Prompt()])), backbone(ids, mask, types))


def test_every_key_and_value_matters(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    ids, mask, types = padded(backbone)
    whole = prompt(3, EVERY, seed=1)
    before = rows_of(backbone(ids, mask, types, Injection([whole])), mask)
    for site, pair in whole.prefix.items():
        for part in ("key", "value"):
            tensor = getattr(pair, part)
            changed = {**whole.prefix, site: pair._replace(**{part: tensor + 0.5 * torch.sign(tensor)})}
            after = rows_of(backbone(ids, mask, types, Injection([Prompt(changed)])), mask)
            for one, other in zip(before, after, strict=True):
                assert ((one - other).abs().amax(-1) > 1e-6).all(), f"{part} at {site} leaves some token as it was"


def test_a_row_alone_is_the_row_in_a_mixed_padded_batch(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    prefixes = bank(({0, 2}, EVERY, {1, 2}))
    ids, mask, types = padded(backbone)
    mixed = rows_of(backbone(ids, mask, types, Injection(prefixes, torch.tensor(ROWS))), mask)
    for number, row in enumerate(ROWS):
        real = mask[number].bool()
        one = [tensor[number][real][None] for tensor in (ids, mask, types)]
        same([backbone(*one, Injection([prefixes[row]]))[0]], [mixed[number]], exactness(family))


def test_more_padding_makes_no_difference(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    injection = Injection(bank(), torch.tensor(ROWS))
    ids, mask, _ = padded(backbone)
    wide_ids, wide_mask, _ = padded(backbone, extra=9)
    same(
        rows_of(backbone(wide_ids, wide_mask, None, injection), wide_mask),
        rows_of(backbone(ids, mask, None, injection), mask),
        exactness(family),
    )


def test_the_order_of_the_bank_makes_no_difference(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    prefixes, inputs = bank(({0, 2}, EVERY, {1, 2})), padded(backbone)
    turned = [prefixes[i] for i in (1, 2, 0)]
    same(
        [backbone(*inputs, Injection(turned, torch.tensor([(1, 2, 0).index(row) for row in ROWS])))],
        [backbone(*inputs, Injection(prefixes, torch.tensor(ROWS)))],
        exactness(family),
    )


def test_gradients_reach_every_prompt_and_no_weight(family):
    backbone = tiny_backbone(family)
    prefixes = bank(({0, 2}, EVERY, {1}), dtype=torch.float32)
    ids, mask, types = padded(backbone)
    hidden = backbone(ids, mask, types, Injection(prefixes, torch.tensor(ROWS)))
    (hidden[mask.bool()] ** 3).sum().backward()
    assert all(tensor.grad is not None and (tensor.grad != 0).all() for tensor in leaves(prefixes))
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_a_prompt_that_no_row_reads_gets_no_gradient(backbone):
    prefixes = bank(dtype=torch.float32)
    ids, mask, types = padded(backbone, TEXTS[:2])
    (backbone(ids, mask, types, Injection(prefixes, torch.tensor([0, 2]))) ** 3).sum().backward()
    assert all((tensor.grad == 0).all() for tensor in leaves(prefixes[1:2]))
    assert all((tensor.grad != 0).any() for tensor in leaves([prefixes[0], prefixes[2]]))


def first_projection(backbone, site):
    """Some linear map of the attention at a site, which a layer that is computed again runs again."""
    attention = next(module for module, sites in backbone._sites.of.items() if site in sites)
    return next(module for module in attention.modules() if isinstance(module, torch.nn.Linear))


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradient_checkpointing_recomputes_and_changes_nothing(family, dropout):
    results, runs = [], []
    for checkpointing in (False, True):
        backbone = tiny_backbone(family)
        backbone.regularize(hidden=dropout, attention=dropout)
        backbone.gradient_checkpointing(checkpointing)
        backbone.train()
        projection, calls = first_projection(backbone, Site("encoder", 1)), []
        projection.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        prefixes = bank(({0, 2}, EVERY, {1}), dtype=torch.float32)
        torch.manual_seed(3)
        hidden = backbone(*padded(backbone), Injection(prefixes, torch.tensor(ROWS)))
        (hidden**3).sum().backward()
        results.append([hidden.detach(), *(tensor.grad for tensor in leaves(prefixes))])
        runs.append(len(calls))
    assert runs[0] > 0
    assert runs[1] == 2 * runs[0]
    for off, on in zip(*results, strict=True):
        assert torch.equal(off, on)


@pytest.mark.parametrize("kind", ["hidden", "attention"])
def test_dropout_runs_only_when_asked_for_and_only_in_training(family, kind):
    backbone = tiny_backbone(family)
    inputs, injection = padded(backbone), Injection([prompt(3, EVERY, seed=1, dtype=torch.float32)])
    plain = backbone(*inputs, injection)
    backbone.train()
    assert torch.equal(backbone(*inputs, injection), plain)
    backbone.regularize(**{kind: 0.3})
    backbone.train()
    assert not torch.allclose(backbone(*inputs, injection), plain)
    backbone.eval()
    assert torch.equal(backbone(*inputs, injection), plain)


def test_bf16_is_close_to_float32(family):
    backbone = tiny_backbone(family)
    inputs = padded(backbone)
    injection = Injection(bank(({0, 2}, EVERY, {1}), dtype=torch.float32), torch.tensor(ROWS))
    exact = backbone(*inputs, injection)[inputs[1].bool()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = backbone(*inputs, injection)[inputs[1].bool()].float()
    assert not torch.equal(exact, rough)
    assert (exact - rough).norm() / exact.norm() < 0.03  # bfloat16 keeps 8 bits; three layers of them


@pytest.mark.parametrize("hidden_too", [False, True])
def test_an_additive_mask_is_extended_like_a_boolean_one(hidden_too):
    open_ = torch.tensor([[[[True, True, False]]], [[[True, False, False]]]])
    visible = torch.tensor([[True, True], [True, False]]) if hidden_too else None
    additive = torch.zeros(2, 1, 1, 3).masked_fill(~open_, torch.finfo(torch.float32).min)
    extended = extend_mask(open_, 2, visible)
    front = [[True, True], [True, not hidden_too]]
    assert extended[:, 0, 0].tolist() == [front[0] + [True, True, False], front[1] + [True, False, False]]
    assert torch.equal(extend_mask(additive, 2, visible) == 0, extended)


def test_a_bank_of_several_needs_the_rows(backbone):
    with pytest.raises(ValueError, match="row indices"):
        backbone(*padded(backbone), Injection(bank(dtype=torch.float32)))
