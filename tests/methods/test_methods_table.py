"""Frozen means bit-identical, and trained means trained, for every method of the table and every family."""

from __future__ import annotations

import pytest
import torch

from foreword.backbones import FAMILIES
from foreword.backbones.fingerprint import weights_digest
from foreword.methods import (
    METHODS,
    Combined,
    LayerDeltas,
    MixtureOfPrompts,
    PrefixTuning,
    PromptTuning,
    PTuning,
    PTuningV2,
)
from foreword.methods.making.nested import NESTS
from tiny import TINY
from tiny_runs import Recorder, tiny_trainer

CASES = [
    *(pytest.param(method(), id=name) for name, method in METHODS.items() if name not in NESTS),
    pytest.param(PTuningV2(prompt_length=3, reparameterization="mlp", mlp_hidden=8), id="ptuning-v2-mlp"),
    pytest.param(PTuningV2(prompt_length=3, layers="1-2"), id="ptuning-v2-some-layers"),
    pytest.param(PTuningV2(prompt_length=3, gate=True), id="ptuning-v2-gate"),
    pytest.param(Combined(parts=(PTuningV2(prompt_length=2), PrefixTuning(mlp_hidden=8))), id="combined"),
    pytest.param(MixtureOfPrompts(of=PTuningV2(prompt_length=2), count=3), id="mixture"),
    pytest.param(PromptTuning(prompt_length=3, init="uniform", dropout=0.1), id="prompt-tuning-uniform"),
    pytest.param(PTuning(template=(3, "text"), reparameterization="mlp", hidden=8), id="p-tuning-mlp"),
    pytest.param(LayerDeltas(prompt_length=3, placement="end", dropout=0.1), id="layer-deltas-end"),
]
FROZEN = [case for case in CASES if not case.values[0].tunes_backbone]
WITHOUT_BIASES = {"gemma", "llama", "mistral", "modernbert", "qwen3", "t5"}
DROPOUT = {"backbone_dropout": 0.2, "attention_dropout": 0.2}


def hindrance(method, family):
    """Why a family cannot be trained with a method: it is refused, or no token could ever read the prompt."""
    if method.name in ("prompt-tuning", "p-tuning", "layer-deltas", "warp") and family == "clip_text_model":
        return "takes no embeddings, so no vectors"
    if method.name == "bitfit" and family in WITHOUT_BIASES:
        return "has no bias terms"
    if method.name == "warp" and TINY[family].tokenizer().mask_token is None:
        return "has no mask token"
    if method.name == "bitfit" and family in ("gemma", "llama", "mistral", "qwen3", "t5"):
        return "has no bias terms"
    if FAMILIES[family].kind == "decoder" and getattr(method, "placement", None) == "end":
        return "reads nothing that stands behind its text"
    return None


@pytest.fixture
def family(text_family, request):
    """Every family that reads text in turn, as far as it can read what the method puts before it."""
    method = request.node.callspec.params.get("method")
    if method is not None and (why := hindrance(method, text_family)):
        pytest.skip(f"{text_family} {why}")
    return text_family


def bits(backbone):
    named = [*backbone.model.named_parameters(), *backbone.model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def test_the_table_names_every_method_once():
    assert all(name == method.name and method.summary for name, method in METHODS.items())
    assert {case.values[0].tunes_backbone for case in CASES} == {True, False}


@pytest.mark.parametrize("method", CASES)
def test_training_moves_every_trainable_tensor(method, family):
    trainer = tiny_trainer(method=method, family=family, epochs=1, batch_size=8)
    before = {name: p.detach().clone() for name, p in trainer.model.trainable()}
    assert before
    trainer.fit()
    stayed = [name for name, p in trainer.model.trainable() if torch.equal(p, before[name])]
    assert stayed == []


@pytest.mark.parametrize("method", FROZEN)
@pytest.mark.parametrize("dropout", [{}, DROPOUT], ids=["no-dropout", "dropout"])
def test_training_leaves_every_bit_of_a_frozen_backbone(method, dropout, family):
    modes = []
    trainer = tiny_trainer(
        method=method,
        family=family,
        epochs=1,
        batch_size=8,
        weight_decay=0.1,
        tracker=Recorder(lambda kind, _: modes.append(backbone.model.training) if kind == "step" else None),
        **dropout,
    )
    backbone = trainer.model.backbone
    before, digest = bits(backbone), weights_digest(backbone.model)
    trainer.fit()
    after = bits(backbone)
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert weights_digest(backbone.model) == digest
    assert modes == [bool(dropout)] * 3
    assert not any(module.training for module in backbone.model.modules())
    trained = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    assert trained.isdisjoint(id(p) for p in backbone.parameters())
    assert trained == {id(p) for _, p in trainer.model.trainable()}
    assert all(p.grad is None and not p.requires_grad for p in backbone.parameters())


@pytest.mark.parametrize("method", CASES)
def test_a_state_puts_everything_trained_back(method):
    trainer, other = tiny_trainer(method=method, epochs=1), tiny_trainer(method=method, epochs=1, seed=5)
    trainer.fit()
    state = trainer.model.state()
    other.model.load_state(state)
    assert state.keys() == other.model.state().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in other.model.state().items())
    assert trainer.evaluate() == other.evaluate()


def test_the_whole_backbone_is_tuned_where_the_method_says_so(family):
    trainer = tiny_trainer(method=METHODS["fine-tuning"](), family=family)
    names = {name.removeprefix("backbone.") for name, _ in trainer.model.trainable() if name.startswith("backbone.")}
    assert names == {name for name, _ in trainer.model.backbone.model.named_parameters()}
