"""Frozen weights in fewer bits: prompts and heads stay float32, and what comes out stays close."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn

import foreword as fw
from foreword.backbones import FAMILIES, load_backbone
from foreword.backbones.quantization import Int8Linear
from foreword.errors import BackboneError
from foreword.injection import Injection
from foreword.methods import PTuningV2
from foreword.model import PromptedModel
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact, train_tiny
from tiny_runs import TASKS

TEXTS = ["Anna visited London.", "The old doctor was reading about New York-based banks.", "It"]
READERS = sorted(name for name, family in FAMILIES.items() if family.kind != "image")
LOW = [torch.bfloat16, torch.float16]


def rows_of(backbone):
    """Ids and mask, padded by hand; and the real tokens."""
    rows = [backbone.tokenizer(text)["input_ids"] for text in TEXTS]
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[backbone.tokenizer.pad_token_id or 0] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def prompt_for(backbone, seed=0):
    torch.manual_seed(seed)
    return PTuningV2(prompt_length=3, dropout=0, init_scale=0.3).build(backbone)


def real_states(backbone, prompt):
    ids, mask = rows_of(backbone)
    return backbone(ids, mask, None, Injection([prompt()]))[mask.bool()]


def distance(found, expected):
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("family", READERS)
class TestLowPrecision:
    def test_states_are_those_of_the_same_weights_in_float32(self, family, dtype):
        low = tiny_backbone(family, dtype=dtype)
        full = tiny_backbone(family)
        full.model.load_state_dict({name: t.float() for name, t in low.model.state_dict().items()})
        prompt = prompt_for(low)
        found = real_states(low, prompt)
        assert found.dtype == dtype
        # Rounding of activations alone: 8 bits of mantissa (2^-9 each) or 11 (2^-12), over three layers.
        assert distance(found, real_states(full, prompt)) < {torch.bfloat16: 0.05, torch.float16: 0.006}[dtype]

    def test_prompt_head_and_their_gradients_are_float32(self, family, dtype):
        backbone = tiny_backbone(family, dtype=dtype)
        model = PromptedModel(
            backbone, PTuningV2(prompt_length=3), TASKS["classification"].build_head(backbone.hidden_size, backbone)
        )
        hidden = backbone(*rows_of(backbone), None, Injection([model.prompt()]))
        logits = model.head(hidden.float(), rows_of(backbone)[1])
        assert logits.dtype == torch.float32
        logits.square().sum().backward()
        for name, parameter in model.trainable():
            assert parameter.dtype == parameter.grad.dtype == torch.float32, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_a_run_on_a_low_precision_backbone(dtype, tmp_path):
    backbone = tiny_backbone(dtype=dtype)
    bits = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    run = train_tiny("classification", "ptuning-v2", backbone, epochs=3)
    run.save(tmp_path / "artifact")
    assert {p.dtype for _, p in run.model.trainable()} == {torch.float32}
    assert all(torch.equal(tensor, bits[name]) for name, tensor in backbone.model.state_dict().items())
    again = fw.load(tmp_path / "artifact")  # on the backbone the artifact names, in its type
    assert again.backbone.model.dtype == dtype
    items = records("classification", labelled=False)
    assert again.predict(items) == fw.load(tmp_path / "artifact", backbone).predict(items)


class TestInt8Linear:
    """Against the rounding written out in float64, number by number."""

    def layer(self):
        torch.manual_seed(0)
        return nn.Linear(24, 10), torch.randn(4, 5, 24) * torch.tensor([0.01, 1.0, 100.0, 1.0])[:, None, None]

    def test_is_what_rounding_says(self):
        linear, x = self.layer()
        steps = linear.weight.double().abs().amax(1) / 127
        weight = (linear.weight.double() / steps[:, None]).round() * steps[:, None]
        sizes = x.double().abs().amax(-1, keepdim=True) / 127
        expected = ((x.double() / sizes).round() * sizes) @ weight.T + linear.bias.double()
        found = Int8Linear(linear.weight.detach().T, linear.bias)(x)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
        assert distance(found, linear(x)) < 0.01

    def test_gradients_are_those_of_the_rounded_weights(self):
        linear, x = self.layer()
        layer = Int8Linear(linear.weight.detach().T, linear.bias)
        x.requires_grad_()
        upstream = torch.randn(4, 5, 10)
        (found,) = torch.autograd.grad((layer(x) * upstream).sum(), x)
        torch.testing.assert_close(found, upstream @ (layer.weight * layer.scale).T)

    def test_a_row_does_not_depend_on_the_rows_beside_it(self):
        linear, x = self.layer()
        layer = Int8Linear(linear.weight.detach().T, linear.bias)
        whole = layer(x)
        assert all(torch.equal(layer(x[i : i + 1])[0], whole[i]) for i in range(4))

    def test_zeros_stay_zeros(self):
        layer = Int8Linear(torch.zeros(24, 10), None)
        assert torch.equal(layer(torch.zeros(2, 24)), torch.zeros(2, 10))


def int8_backbone(family="bert", **options):
    return load_backbone(tiny_backbone(family).name, quantization="int8", **options)


@pytest.mark.parametrize("family", READERS)
class TestInt8Backbone:
    def test_every_linear_layer_is_rounded_and_the_states_stay_close(self, family):
        full, rounded = tiny_backbone(family), int8_backbone(family)
        kinds = {type(module).__name__ for module in rounded.model.modules()}
        assert "Int8Linear" in kinds
        assert not kinds & {"Linear", "Conv1D"}
        assert rounded.parameter_count == full.parameter_count
        prompt = prompt_for(full)
        away = distance(real_states(rounded, prompt), real_states(full, prompt))
        assert 0 < away < 0.1

    def test_gradients_reach_the_prompt_and_point_the_same_way(self, family):
        found = []
        for backbone in (tiny_backbone(family), int8_backbone(family)):
            prompt = prompt_for(backbone)
            states = real_states(backbone, prompt)
            upstream = torch.randn(states.shape, generator=torch.Generator().manual_seed(3))
            (states * upstream).sum().backward()
            found.append(torch.cat([p.grad.flatten() for p in prompt.parameters()]))
        assert torch.cosine_similarity(*found, dim=0) > 0.9


class TestInt8Artifacts:
    def test_the_identity_is_of_the_weights_before_rounding(self):
        ours, theirs = int8_backbone().identity, tiny_backbone().identity
        assert (ours.weights, ours.dtype, ours.tokenizer) == (theirs.weights, theirs.dtype, theirs.tokenizer)
        assert (ours.quantization, theirs.quantization) == ("int8", None)

    def test_trained_on_float32_and_used_on_int8_with_a_warning(self):
        items = records("classification", labelled=False)
        full, rounded = (fw.load(tiny_artifact(), b) for b in (tiny_backbone(), int8_backbone()))
        assert full.warnings == []
        (warning,) = rounded.warnings
        assert warning.startswith("trained on a backbone with quantization 'none', used on one with 'int8'")
        for one, other in zip(full.predict(items), rounded.predict(items), strict=True):
            assert one["probability"] == pytest.approx(other["probability"], abs=0.05)
            assert one != other

    def test_trained_on_int8_it_comes_back_on_int8(self, tmp_path):
        run = train_tiny("classification", "ptuning-v2", int8_backbone(), epochs=3)
        run.save(tmp_path / "artifact")
        again = fw.load(tmp_path / "artifact")
        assert again.backbone.quantization == "int8"
        assert again.warnings == []
        items = records("classification", labelled=False)
        assert again.predict(items) == fw.load(tmp_path / "artifact", int8_backbone()).predict(items)

    def test_fine_tuning_is_refused(self):
        with pytest.raises(BackboneError, match="quantized to 'int8' cannot be trained"):
            train_tiny("classification", "fine-tuning", int8_backbone())


class TestRefused:
    def test_int8_elsewhere_than_on_a_cpu(self):
        with pytest.raises(BackboneError, match="is for CPUs, not for 'meta'"):
            int8_backbone(device="meta")

    @pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
    @pytest.mark.parametrize("kind", ["bitsandbytes-8bit", "bitsandbytes-4bit"])
    def test_bitsandbytes_where_it_is_not_installed(self, kind):
        with pytest.raises(BackboneError, match="pip install bitsandbytes"):
            load_backbone(tiny_backbone().name, quantization=kind)
