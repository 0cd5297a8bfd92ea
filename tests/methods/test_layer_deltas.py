"""Layer deltas: added where the plain model is given them by hand, and mixed with every other kind of prompt."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.errors import MethodError
from foreword.injection import Injection, Prompt
from foreword.methods import Blueprint, FoldedPrompt, LayerDeltas, PromptTuning, PTuning, PTuningV2, fold
from plain import TEXTS, batch_of, row_of, run_by_hand
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact
from tiny_runs import tiny_trainer

FAMILIES = ["bert", "roberta"]


def built(backbone, **settings):
    """With deltas as after training; they start at zero."""
    torch.manual_seed(0)
    encoder = LayerDeltas(**{"prompt_length": 4, "init": "uniform", **settings}).build(backbone)
    with torch.no_grad():
        encoder.deltas.normal_()
    return encoder.eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("placement", ["front", "after-first", "end"])
def test_the_plain_model_with_deltas_added_by_hand(family, padding, placement):
    backbone = tiny_backbone(family)
    encoder = built(backbone, placement=placement)
    rows = [row_of(backbone, text) for text in TEXTS]
    batch = batch_of(backbone, rows, padding)
    with torch.no_grad():
        hidden = backbone(**batch, injection=Injection([encoder()]))
    vectors, deltas = encoder.vectors.detach(), encoder.deltas.detach()
    assert deltas.shape == (2, 4, 32)
    for row, states, real in zip(rows, hidden, batch["attention_mask"].bool(), strict=True):
        place = {"front": 0, "after-first": 1, "end": len(row["input_ids"])}[placement]
        placed = [(place, vector) for vector in vectors]
        expected = run_by_hand(backbone, row, placed, {1: deltas[0], 2: deltas[1]})
        torch.testing.assert_close(states[real], expected, rtol=1e-4, atol=2e-5)
        assert (run_by_hand(backbone, row, placed) - expected).abs().max() > 0.05


def test_it_starts_as_prompt_tuning(backbone):
    torch.manual_seed(1)
    deltas = LayerDeltas(prompt_length=4).build(backbone)
    torch.manual_seed(1)
    plain = PromptTuning(prompt_length=4).build(backbone)
    assert torch.equal(deltas.vectors, plain.vectors)
    batch = batch_of(backbone, [row_of(backbone, text) for text in TEXTS])
    one, other = (backbone(**batch, injection=Injection([encoder()])) for encoder in (deltas, plain))
    assert torch.equal(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_deltas_of_every_layer_and_position_learn(family):
    trainer = tiny_trainer(method=LayerDeltas(prompt_length=4), family=family, epochs=1)
    assert not trainer.model.prompt.deltas.any()
    trainer.fit()
    assert trainer.model.prompt.deltas.ne(0).any(-1).all()


def test_folded_equals_unfolded(backbone):
    encoder = built(backbone, dropout=0.5).train()
    prompt = FoldedPrompt(fold(encoder))
    assert encoder.training
    encoder.eval()
    assert torch.equal(prompt().inputs.vectors, encoder.vectors)
    assert list(prompt().inputs.deltas) == [1, 2]
    assert all(torch.equal(prompt().inputs.deltas[layer], encoder.deltas[layer - 1]) for layer in (1, 2))
    batch = batch_of(backbone, [row_of(backbone, text) for text in TEXTS])
    one, other = (backbone(**batch, injection=Injection([made()])) for made in (prompt, encoder))
    assert torch.equal(one, other)


def test_dropout_reaches_the_deltas_and_is_for_training_alone(backbone):
    encoder = built(backbone, dropout=0.5, prompt_length=40).train()
    gone = torch.stack(list(encoder().inputs.deltas.values())) == 0
    assert 0.3 < gone.float().mean() < 0.7


def test_shapes_are_known_without_numbers():
    blueprint = Blueprint(tiny_backbone("electra"))
    with torch.device("meta"):
        prompt = fold(LayerDeltas(prompt_length=6).build(blueprint))
    assert prompt.inputs.vectors.shape == (6, 16)
    assert {layer: tuple(delta.shape) for layer, delta in prompt.inputs.deltas.items()} == {1: (6, 32), 2: (6, 32)}
    assert all(delta.is_meta for delta in prompt.inputs.deltas.values())


def test_one_layer_is_too_few():
    with pytest.raises(MethodError, match="two layers or more"):
        LayerDeltas().build(tiny_backbone(num_hidden_layers=1))


class TestAnotherPrompt:
    def test_of_its_own_kind(self, backbone):
        given = built(backbone, prompt_length=3)
        encoder = LayerDeltas(prompt_length=5).build(backbone)
        encoder.start_from(fold(given))
        assert torch.equal(encoder.vectors[:3], given.vectors)
        assert torch.equal(encoder.deltas[:, :3], given.deltas)
        assert not encoder.deltas[:, 3:].any()

    def test_of_prompt_tuning(self, backbone):
        given = PromptTuning(prompt_length=3, init="uniform").build(backbone)
        encoder = LayerDeltas(prompt_length=3).build(backbone)
        encoder.start_from(fold(given))
        assert torch.equal(encoder.vectors, given.vectors)
        assert not encoder.deltas.any()


def bank_of(backbone):
    """Every kind of prompt, no two of one length."""
    torch.manual_seed(4)
    return [
        PromptTuning(prompt_length=6, init="uniform").build(backbone)(),
        PTuningV2(prompt_length=3, init_scale=1.0, dropout=0.0).build(backbone)(),
        built(backbone, placement="end", prompt_length=2)(),
        PTuning(template=(1, "text", 4)).build(backbone)(),
        Prompt(),
    ]


@pytest.mark.parametrize("family", [*FAMILIES, "electra"])
@pytest.mark.parametrize("padding", ["right", "left"])
def test_rows_with_prompts_of_every_kind_equal_rows_alone(family, padding):
    backbone = tiny_backbone(family).eval()
    bank = bank_of(backbone)
    chosen = [2, 0, 4, 1, 3, 2, 1, 0, 3, 4]
    rows = [row_of(backbone, TEXTS[number % 3]) for number in range(len(chosen))]
    batch = batch_of(backbone, rows, padding)
    with torch.no_grad():
        mixed = backbone(**batch, injection=Injection(bank, torch.tensor(chosen)))
        for number, row in enumerate(rows):
            alone = backbone(**batch_of(backbone, [row]), injection=Injection([bank[chosen[number]]]))[0]
            real = batch["attention_mask"][number].bool()
            torch.testing.assert_close(mixed[number, real], alone, rtol=1e-4, atol=2e-5)


KINDS = ("prompt-tuning", "ptuning-v2", "layer-deltas", "p-tuning", "warp", "head-only")


@pytest.mark.parametrize("kinds", list(permutations(KINDS, 3))[::17])
def test_tasks_of_several_methods_answer_one_batch(kinds):
    backbone = tiny_backbone()
    made = dict(zip(("classification", "ner", "qa"), kinds, strict=True))
    artifacts = {task: load_artifact(tiny_artifact(task, method)) for task, method in made.items()}
    inputs = [
        (task, item)
        for items in zip(*(records(task, False) for task in made), strict=True)
        for task, item in zip(made, items, strict=True)
    ]
    mixed = fw.Engine(backbone, artifacts).predict(inputs)
    for task, method in made.items():
        single = fw.load(tiny_artifact(task, method), backbone).predict(records(task, labelled=False))
        answers = [answer for answer in mixed if answer["task"] == task]
        for answer, expected in zip(answers, single, strict=True):
            key = {"classification": "label", "ner": "entities", "qa": "answer"}[task]
            assert _rounded(answer[key]) == _rounded(expected[key])


def _rounded(value):
    """Without the last digits of probabilities: another batch adds up in another order."""
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
