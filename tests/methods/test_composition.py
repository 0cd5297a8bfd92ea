"""Mean, stack and cutting of prompts, by hand and through models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from by_hand import random_prompt
from foreword.errors import MethodError
from foreword.injection import Anchor, Injection, InputPrompt, KeyValue, Prompt, Site
from foreword.methods import average, stack
from foreword.methods.composition import unstack
from reference_encoders import softmax
from tiny import tiny_backbone
from tiny_prompts import padded, rows_of, same

SITES = (Site("encoder", 0), Site("encoder", 2), Site("cross", 1))


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def prefix(length, *, seed, gated=False, sites=SITES, heads=2, **how):
    pairs = {}
    for site in sites:
        seed += 10
        gate = numbers(heads, seed=seed + 2) if gated else None
        pairs[site] = KeyValue(numbers(heads, length, 3, seed=seed), numbers(heads, length, 3, seed=seed + 1), gate)
    return Prompt(pairs, **how)


def vectors(anchors, *, seed, layers=(), width=5, depth=4):
    deltas = {layer: numbers(len(anchors), depth, seed=seed + 1 + layer) for layer in layers}
    return Prompt(inputs=InputPrompt(numbers(len(anchors), width, seed=seed), tuple(anchors), deltas))


def both(length, anchors, *, seed, **how):
    return Prompt(prefix(length, seed=seed).prefix, vectors(anchors, seed=seed).inputs, **how)


FRONT, END = Anchor.FRONT, Anchor.END


class TestAverage:
    @pytest.mark.parametrize("gated", [False, True])
    @pytest.mark.parametrize("weights", [None, [1, 1, 2], [0.2, 0.0, 0.3]])
    def test_of_keys_and_values(self, weights, gated):
        prompts = [prefix(4, seed=seed, gated=gated) for seed in (1, 2, 3)]
        shares = np.array([1, 1, 1] if weights is None else weights, dtype=float)
        shares /= shares.sum()
        mean = average(prompts, weights)
        assert set(mean.prefix) == set(SITES)
        for site in SITES:
            for part in range(3 if gated else 2):
                expected = sum(w * p.prefix[site][part].numpy() for w, p in zip(shares, prompts, strict=True))
                np.testing.assert_allclose(mean.prefix[site][part].numpy(), expected, rtol=1e-12, atol=1e-15)
            assert gated or mean.prefix[site].gate is None

    def test_of_vectors_and_their_deltas(self):
        """Where a prompt has no delta it adds zero."""
        prompts = [vectors([FRONT, END], seed=1, layers=[1, 2]), vectors([FRONT, END], seed=7, layers=[2])]
        mean = average(prompts, [3, 1]).inputs
        assert mean.anchors == (FRONT, END)
        first, second = (prompt.inputs for prompt in prompts)
        torch.testing.assert_close(mean.vectors, 0.75 * first.vectors + 0.25 * second.vectors)
        assert set(mean.deltas) == {1, 2}
        torch.testing.assert_close(mean.deltas[1], 0.75 * first.deltas[1])
        torch.testing.assert_close(mean.deltas[2], 0.75 * first.deltas[2] + 0.25 * second.deltas[2])

    def test_of_one_is_itself(self):
        prompt = both(3, [FRONT], seed=4, shift_positions=True)
        assert_same(average([prompt]), prompt)

    def test_keeps_what_all_agree_on(self):
        for how in ({"shift_positions": True}, {"infix": True}, {}):
            mean = average([prefix(2, seed=seed, **how) for seed in (1, 2)])
            assert (mean.shift_positions, mean.infix) == (how.get("shift_positions", False), how.get("infix", False))

    def test_gradients_pass(self):
        prompts = [prefix(2, seed=seed).map(lambda tensor: tensor.requires_grad_()) for seed in (1, 2)]
        average(prompts, [1, 3]).prefix[SITES[0]].key.sum().backward()
        assert [prompt.prefix[SITES[0]].key.grad.unique().item() for prompt in prompts] == [0.25, 0.75]

    @pytest.mark.parametrize(
        ("prompts", "weights", "says"),
        [
            ([], None, "there are no prompts"),
            ([prefix(2, seed=1)], [1, 2], "1 prompts need as many weights, not 2"),
            ([prefix(2, seed=1)] * 2, [0, 0], "not negative and not all zero"),
            ([prefix(2, seed=1)] * 2, [2, -1], "not negative and not all zero"),
            ([prefix(2, seed=1)] * 2, [float("nan"), 1], "not negative and not all zero"),
            ([prefix(2, seed=1), prefix(3, seed=1)], None, r"the keys at cross.1 are \(2, 2, 3\) and \(2, 3, 3\)"),
            ([prefix(2, seed=1), prefix(2, seed=1, gated=True)], None, "some of these prompts have a gate"),
            ([prefix(2, seed=1), prefix(2, seed=1, sites=SITES[:1])], None, "cover different sites"),
            ([prefix(2, seed=1), vectors([FRONT], seed=1)], None, "some are keys and values, some vectors"),
            ([both(2, [FRONT], seed=1), prefix(2, seed=1)], None, "some are keys and values, some vectors"),
            ([vectors([FRONT], seed=1), vectors([END], seed=1)], None, "stand in different places"),
            ([vectors([FRONT], seed=1), vectors([FRONT] * 2, seed=1)], None, "are not as many"),
            ([vectors([FRONT], seed=1), vectors([FRONT], seed=1, width=6)], None, r"the vectors are \(1, 5\)"),
            ([prefix(2, seed=1), prefix(2, seed=1, infix=True)], None, "some of these prompts have infix"),
        ],
    )
    def test_refused(self, prompts, weights, says):
        with pytest.raises(MethodError, match=says):
            average(prompts, weights)


def assert_same(found, expected):
    assert (found.shift_positions, found.infix) == (expected.shift_positions, expected.infix)
    assert found.prefix.keys() == expected.prefix.keys()
    for site, pair in expected.prefix.items():
        assert torch.equal(found.prefix[site].key, pair.key)
        assert torch.equal(found.prefix[site].value, pair.value)
        assert (found.prefix[site].gate is None) == (pair.gate is None)
        assert pair.gate is None or torch.equal(found.prefix[site].gate, pair.gate)
    assert (found.inputs is None) == (expected.inputs is None)
    if expected.inputs is not None:
        assert found.inputs.anchors == expected.inputs.anchors
        assert torch.equal(found.inputs.vectors, expected.inputs.vectors)
        assert found.inputs.deltas.keys() == expected.inputs.deltas.keys()
        assert all(torch.equal(found.inputs.deltas[layer], delta) for layer, delta in expected.inputs.deltas.items())


class TestStack:
    def test_of_keys_and_values(self):
        prompts = [prefix(length, seed=length) for length in (4, 1, 3)]
        whole = stack(prompts)
        assert whole.length == 8
        for site in SITES:
            for part in range(2):
                expected = np.concatenate([prompt.prefix[site][part].numpy() for prompt in prompts], axis=1)
                assert np.array_equal(whole.prefix[site][part].numpy(), expected)

    def test_of_vectors_and_their_deltas(self):
        first, second = vectors([FRONT, END], seed=1, layers=[1]), vectors([END], seed=7, layers=[1, 3])
        whole = stack([first, second]).inputs
        assert whole.anchors == (FRONT, END, END)
        assert torch.equal(whole.vectors, torch.cat([first.inputs.vectors, second.inputs.vectors]))
        assert torch.equal(whole.deltas[1], torch.cat([first.inputs.deltas[1], second.inputs.deltas[1]]))
        assert torch.equal(whole.deltas[3][:2], torch.zeros(2, 4))
        assert torch.equal(whole.deltas[3][2:], second.inputs.deltas[3])

    def test_of_both_kinds(self):
        deep, shallow = prefix(2, seed=1, shift_positions=True), vectors([FRONT], seed=1)
        expected = Prompt(deep.prefix, shallow.inputs, shift_positions=True)
        assert_same(stack([deep, shallow]), expected)
        assert_same(stack([shallow, deep]), expected)

    @pytest.mark.parametrize(
        "prompt",
        [prefix(3, seed=1, gated=True), prefix(3, seed=1, infix=True), vectors([END], seed=2, layers=[1]), Prompt()],
    )
    def test_of_one_is_itself(self, prompt):
        assert_same(stack([prompt]), prompt)

    def test_gates_that_are_the_same(self):
        one, other = prefix(2, seed=1, gated=True), prefix(3, seed=5, gated=True)
        other = Prompt({site: pair._replace(gate=one.prefix[site].gate) for site, pair in other.prefix.items()})
        whole = stack([one, other])
        assert all(torch.equal(whole.prefix[site].gate, one.prefix[site].gate) for site in SITES)

    @pytest.mark.parametrize(
        ("prompts", "says"),
        [
            ([], "there are no prompts"),
            ([prefix(2, seed=1), prefix(2, seed=1, gated=True)], "some of these prompts have a gate"),
            ([prefix(2, seed=1, gated=True), prefix(2, seed=2, gated=True)], "the gates at cross.1 differ"),
            (
                [prefix(2, seed=1), prefix(2, seed=1, sites=SITES[:2])],
                "different sites: cross.1, encoder.0, encoder.2;",
            ),
            ([prefix(2, seed=1), prefix(2, seed=1, heads=4)], r"different backbones: .* keys at cross.1"),
            ([prefix(2, seed=1), prefix(2, seed=1, shift_positions=True)], "some .* have shift_positions"),
            ([vectors([FRONT], seed=1), vectors([FRONT], seed=1, width=6)], r"different backbones: .* the vectors"),
        ],
    )
    def test_refused(self, prompts, says):
        with pytest.raises(MethodError, match=says):
            stack(prompts)


class TestUnstack:
    def test_is_the_way_back(self):
        parts = [
            prefix(2, seed=1),
            vectors([FRONT, END], seed=2, layers=[1]),
            both(3, [END], seed=3),
            vectors([], seed=4),
        ]
        found = unstack(stack(parts), parts)
        assert_same(found[0], parts[0])
        assert_same(found[1], parts[1])
        assert found[2].length == 3
        assert torch.equal(found[2].inputs.vectors, parts[2].inputs.vectors)
        assert found[3].inputs is None

    def test_lengths_that_do_not_add_up(self):
        with pytest.raises(MethodError, match="has 5 positions and 0 vectors, its parts together would have 4 and 0"):
            unstack(prefix(5, seed=1), [prefix(2, seed=1)] * 2)


class TestThroughAModel:
    @pytest.mark.parametrize("gated", [False, True])
    def test_a_stack_of_one_reads_as_itself(self, gated):
        backbone = tiny_backbone("bert", dtype=torch.float64)
        inputs, prompt = padded(backbone), random_prompt(backbone, 4, seed=1, gated=gated, front=2, end=1)
        alone, stacked = (rows_of(backbone(*inputs, Injection([one])), inputs[1]) for one in (prompt, stack([prompt])))
        same(stacked, alone, 1e-12)

    def test_the_order_of_a_stack_of_prefixes_does_not_matter(self):
        """Keys and values have no positions, so attention reads them as a set."""
        backbone = tiny_backbone("bert", dtype=torch.float64)
        inputs, (one, other) = padded(backbone), (random_prompt(backbone, n, seed=n) for n in (2, 5))
        found, turned = (
            rows_of(backbone(*inputs, Injection([stack(order)])), inputs[1]) for order in ([one, other], [other, one])
        )
        same(found, turned)

    def test_a_stack_is_one_softmax_over_all_positions(self):
        """At the first layer, by hand."""
        backbone = tiny_backbone("bert", dtype=torch.float64, num_hidden_layers=1)
        (site,) = backbone.sites
        prompts = [random_prompt(backbone, n, seed=n) for n in (2, 3)]
        attention = backbone.model.encoder.layer[0].attention.self
        seen = {}
        attention.register_forward_hook(lambda _, args, out: seen.update(given=args[0], read=out[0]))
        ids, mask, types = padded(backbone, ["Anna visited London."])
        backbone(ids, mask, types, Injection([stack(prompts)]))
        x = seen["given"][0]
        query, key, value = (
            (x @ part.weight.T + part.bias).reshape(len(x), 4, 8).transpose(0, 1)
            for part in (attention.query, attention.key, attention.value)
        )
        key = torch.cat([*(prompt.prefix[site].key for prompt in prompts), key], 1)
        value = torch.cat([*(prompt.prefix[site].value for prompt in prompts), value], 1)
        read = softmax(query @ key.mT / 8**0.5) @ value
        torch.testing.assert_close(seen["read"][0], read.transpose(0, 1).flatten(1))

    def test_a_mean_of_one_prompt_with_itself_changes_nothing(self):
        backbone = tiny_backbone("bert", dtype=torch.float64)
        inputs, prompt = padded(backbone), random_prompt(backbone, 4, seed=1)
        alone, mean = (
            rows_of(backbone(*inputs, Injection([one])), inputs[1]) for one in (prompt, average([prompt] * 3))
        )
        same(mean, alone, 1e-12)

    def test_a_stack_with_itself_is_another_prompt(self):
        """Every position counts twice against the text."""
        backbone = tiny_backbone("bert", dtype=torch.float64)
        inputs, prompt = padded(backbone), random_prompt(backbone, 4, seed=1)
        alone, twice = (
            rows_of(backbone(*inputs, Injection([one])), inputs[1]) for one in (prompt, stack([prompt] * 2))
        )
        assert all((a - b).abs().max() > 1e-3 for a, b in zip(alone, twice, strict=True))
