"""P-tuning: its network against one written out in numpy, and its template against rows put together by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from foreword.errors import BackboneError
from foreword.injection import Anchor, Injection
from foreword.methods import Blueprint, FoldedPrompt, PTuning, fold
from foreword.methods.making.template import anchors_of
from plain import TEXTS, batch_of, row_of, run_by_hand
from tiny import tiny_backbone

W = 32
NETWORKS = [
    {"reparameterization": "lstm"},
    {"reparameterization": "lstm", "hidden": 5},
    {"reparameterization": "mlp"},
    {"reparameterization": "mlp", "hidden": 5},
]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(weights, layer, direction, inputs):
    """One layer in one direction: Hochreiter & Schmidhuber's cell with a forget gate, gates in the order i, f, g, o."""
    suffix = f"l{layer}{direction}"
    hidden = cell = np.zeros(weights[f"lstm.weight_hh_{suffix}"].shape[1])
    outputs = []
    for x in inputs[::-1] if direction else inputs:
        gates = weights[f"lstm.weight_ih_{suffix}"] @ x + weights[f"lstm.bias_ih_{suffix}"]
        gates = gates + weights[f"lstm.weight_hh_{suffix}"] @ hidden + weights[f"lstm.bias_hh_{suffix}"]
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs[::-1] if direction else outputs)


def vectors_by_hand(encoder):
    weights = {name: p.detach().double().numpy() for name, p in encoder.named_parameters()}
    states = weights["embedding"]
    if "lstm.weight_ih_l0" in weights:
        for layer in (0, 1):
            states = np.concatenate(
                [lstm_by_hand(weights, layer, direction, states) for direction in ("", "_reverse")], axis=1
            )
    inner = np.maximum(states @ weights["mlp.0.weight"].T + weights["mlp.0.bias"], 0)
    return inner @ weights["mlp.2.weight"].T + weights["mlp.2.bias"]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: "-".join(map(str, n.values())))
class TestNetwork:
    def test_written_out(self, backbone, network):
        encoder = PTuning(template=(3, "text", 2), **network).build(backbone).eval()
        vectors = encoder().inputs.vectors
        assert vectors.shape == (5, W)
        np.testing.assert_allclose(vectors.detach().numpy(), vectors_by_hand(encoder), rtol=1e-4, atol=1e-6)

    def test_folded_is_what_the_network_makes(self, backbone, network):
        encoder = PTuning(dropout=0.5, **network).build(backbone).train()
        prompt = FoldedPrompt(fold(encoder))
        assert encoder.training
        with torch.no_grad():  # as in every evaluation: with gradients torch runs another LSTM kernel
            assert torch.equal(prompt().inputs.vectors, encoder.eval()().inputs.vectors)
        assert prompt().inputs.anchors == encoder().inputs.anchors
        assert list(prompt.parameters()) == []

    def test_folded_answers_like_unfolded(self, backbone, network):
        encoder = PTuning(template=(2, "text", 1), **network).build(backbone).eval()
        batch = batch_of(backbone, [row_of(backbone, text) for text in TEXTS])
        with torch.no_grad():
            unfolded = backbone(**batch, injection=Injection([encoder()]))
            folded = backbone(**batch, injection=Injection([fold(encoder)]))
        assert torch.equal(unfolded, folded)

    def test_every_weight_learns(self, backbone, network):
        encoder = PTuning(template=(3, "text"), **network).build(backbone)
        batch = batch_of(backbone, [row_of(backbone, text) for text in TEXTS])
        backbone(**batch, injection=Injection([encoder()])).pow(2).sum().backward()
        assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()] == []

    def test_shapes_are_known_without_numbers(self, network):
        blueprint = Blueprint(tiny_backbone("electra"))
        with torch.device("meta"):
            prompt = fold(PTuning(template=(2, "text", 1), **network).build(blueprint))
        assert prompt.inputs.vectors.is_meta
        assert prompt.inputs.vectors.shape == (3, 16)

    def test_torchs_seed_decides_the_start(self, backbone, network):
        def start(seed):
            torch.manual_seed(seed)
            return fold(PTuning(**network).build(backbone)).inputs.vectors

        assert torch.equal(start(1), start(1))
        assert not torch.equal(start(1), start(2))


@pytest.mark.parametrize(
    ("network", "count"),
    [
        # P x W embeddings; per layer and direction 4 H x (inputs + H) weights and 2 x 4 H biases; two linear layers.
        (NETWORKS[0], 5 * W + 4 * (4 * 16 * (W + 16) + 8 * 16) + 2 * (W * W + W)),
        (NETWORKS[1], 5 * W + 2 * (4 * 5 * (W + 5) + 40) + 2 * (4 * 5 * (10 + 5) + 40) + 10 * W + W + W * W + W),
        (NETWORKS[2], 5 * W + 2 * (W * W + W)),
        (NETWORKS[3], 5 * W + W * 5 + 5 + 5 * W + W),
    ],
)
def test_as_many_parameters_as_the_authors_network_has(backbone, network, count):
    encoder = PTuning(template=(3, "text", 2), **network).build(backbone)
    assert sum(p.numel() for p in encoder.parameters()) == count


A = Anchor


class TestTemplate:
    @pytest.mark.parametrize(
        ("template", "anchors"),
        [
            ((2, "text", 1), [A.AFTER_FIRST] * 2 + [A.BEFORE_LAST]),
            ((1, "text", 2, "mask", 3), [A.AFTER_FIRST] + [A.BEFORE_MASK] * 2 + [A.AFTER_MASK] * 3),
            ((1, "mask", 1, "text", 1), [A.BEFORE_MASK, A.AFTER_MASK, A.BEFORE_LAST]),
            ((1, "text", 1, "pair", 1), [A.AFTER_FIRST, A.BETWEEN, A.BEFORE_LAST]),
            ((1, "text", 1, "mask", 1, "pair", 1), [A.AFTER_FIRST, A.BEFORE_MASK, A.AFTER_MASK, A.BEFORE_LAST]),
            (("text", 1, 2), [A.BEFORE_LAST] * 3),
            (("text", "pair", 1, "mask"), [A.BEFORE_MASK]),
        ],
    )
    def test_places(self, template, anchors):
        assert list(anchors_of(template)) == anchors
        assert PTuning(template=template).positions_taken == len(anchors)

    @pytest.mark.parametrize(
        ("template", "message"),
        [
            ((3, "mask", 3), "expected 'text' once"),
            ((3, "text", 3, "text"), "expected 'text' once"),
            (("text", 1, "mask", 1, "mask"), "each other word at most once"),
            (("pair", 3, "text"), "'pair' is the second text"),
            (("text", "mask"), "at least one count"),
            ((), "expected 'text' once"),
            ((0, "text"), "greater than 0"),
            ((3, "title"), "Input should be"),
        ],
    )
    def test_templates_that_make_no_sense(self, template, message):
        with pytest.raises(ValidationError, match=message):
            PTuning(template=template)

    @pytest.mark.parametrize("family", ["bert", "roberta"])
    @pytest.mark.parametrize("padding", ["right", "left"])
    def test_rows_put_together_by_hand(self, family, padding):
        backbone = tiny_backbone(family)
        mask = backbone.tokenizer.mask_token
        method = PTuning(template=(2, "text", 1, "mask", 1, "pair", 2))
        encoder = method.build(backbone).eval()
        vectors = encoder().inputs.vectors.detach()
        rows = [row_of(backbone, f"{TEXTS[0]} {mask}", TEXTS[1]), row_of(backbone, f"London {mask} it", "so")]
        batch = batch_of(backbone, rows, padding)
        with torch.no_grad():
            hidden = backbone(**batch, injection=Injection([encoder()]))
        for row, states, real in zip(rows, hidden, batch["attention_mask"].bool(), strict=True):
            at, end = row["input_ids"].index(backbone.tokenizer.mask_token_id), len(row["input_ids"]) - 1
            placed = list(zip([1, 1, at, at + 1, end, end], vectors, strict=True))
            torch.testing.assert_close(states[real], run_by_hand(backbone, row, placed), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("family", ["bert", "roberta"])
    def test_between_the_texts_of_a_pair(self, family):
        backbone = tiny_backbone(family)
        encoder = PTuning(template=("text", 3, "pair")).build(backbone).eval()
        row = row_of(backbone, TEXTS[0], TEXTS[1])
        after = row["input_ids"].index(backbone.tokenizer.sep_token_id) + 1
        with torch.no_grad():
            (states,) = backbone(**batch_of(backbone, [row]), injection=Injection([encoder()]))
        placed = [(after, vector) for vector in encoder().inputs.vectors.detach()]
        torch.testing.assert_close(states, run_by_hand(backbone, row, placed), rtol=1e-4, atol=1e-5)

    def test_a_template_with_a_mask_wants_rows_with_one(self, backbone):
        encoder = PTuning(template=(3, "text", 3, "mask")).build(backbone)
        with pytest.raises(BackboneError, match="has no mask token, which the prompt's template stands around"):
            backbone(**batch_of(backbone, [row_of(backbone, TEXTS[0])]), injection=Injection([encoder()]))


@pytest.mark.parametrize(
    "bad", [{"reparameterization": "direct"}, {"hidden": 0}, {"dropout": 1.0}, {"prompt_length": 3}]
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        PTuning(**bad)


def test_without_a_template_vectors_stand_around_the_text_and_before_it_where_nothing_behind_is_read():
    around, before = (PTuning().build(tiny_backbone(family))().inputs.anchors for family in ("bert", "gpt2"))
    assert around == (Anchor.AFTER_FIRST,) * 10 + (Anchor.BEFORE_LAST,) * 10
    assert before == (Anchor.AFTER_FIRST,) * 20
    assert PTuning().positions_taken == 20
