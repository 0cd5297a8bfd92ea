"""Hidden states of every layer side by side, against those that the plain model of transformers gives."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import layer_norm

import foreword as fw
from foreword.backbones import FAMILIES
from foreword.heads import TokenHead
from foreword.injection import Injection
from foreword.methods import Blueprint
from foreword.model import head_logits
from plain import TEXTS, batch_of, plain_model, row_of
from tiny import tiny_backbone

TEXT_FAMILIES = sorted(name for name, family in FAMILIES.items() if family.kind != "image")


def rows_of(backbone):
    return batch_of(backbone, [row_of(backbone, text) for text in TEXTS])


@pytest.mark.parametrize("family", TEXT_FAMILIES)
def test_they_are_those_of_the_plain_model(family):
    backbone = tiny_backbone(family)
    batch = rows_of(backbone)
    model = plain_model(backbone)
    model = model.get_encoder() if FAMILIES[family].kind == "encoder-decoder" else model
    with torch.no_grad():
        found = backbone(**batch, every_layer=True)
        plain = model(**batch, output_hidden_states=True).hidden_states
    assert found.shape[-1] == (backbone.depth + 1) * backbone.hidden_size
    blocks = found.split(backbone.hidden_size, dim=-1)
    real = batch["attention_mask"].bool()
    for block, state in zip(blocks[:-1], plain[:-1], strict=True):
        expected = layer_norm(state, state.shape[-1:])
        torch.testing.assert_close(block[real], expected[real], rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(blocks[-1], backbone(**batch), rtol=0, atol=0)


@pytest.mark.parametrize("method", [fw.PTuningV2(prompt_length=3, init_scale=1.0), fw.PromptTuning(prompt_length=3)])
@pytest.mark.parametrize("family", ["bert", "albert", "deberta-v2", "gpt2"])
def test_prompts_change_them_and_a_row_is_the_row_alone(family, method):
    backbone = tiny_backbone(family)
    torch.manual_seed(2)
    injection = Injection([method.build(backbone).eval()()])
    rows = [row_of(backbone, text) for text in TEXTS]
    with torch.no_grad():
        together = backbone(**batch_of(backbone, rows), injection=injection, every_layer=True)
        bare = backbone(**batch_of(backbone, rows), every_layer=True)
        for row, found, without in zip(rows, together, bare, strict=True):
            length = len(row["input_ids"])
            alone = backbone(**batch_of(backbone, [row]), injection=injection, every_layer=True)[0]
            torch.testing.assert_close(found[:length], alone, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(found[:length], without[:length], atol=1e-3)


@pytest.mark.parametrize("family", ["bert", "albert", "mpnet"])
def test_gradients_are_the_same_where_activations_are_computed_again(family):
    backbone = tiny_backbone(family)
    method = fw.PTuningV2(prompt_length=3, init_scale=1.0, dropout=0.0)
    gradients = []
    for again in (False, True):
        torch.manual_seed(2)
        encoder = method.build(backbone)
        backbone.gradient_checkpointing(again)
        backbone.train()
        backbone(**rows_of(backbone), injection=Injection([encoder()]), every_layer=True).square().mean().backward()
        gradients.append(encoder.prompt.weight.grad)
    backbone.gradient_checkpointing(False)
    backbone.eval()
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
    assert gradients[0].abs().sum() > 0


def test_a_head_that_wants_the_last_layer_gets_it_in_a_batch_where_another_wants_all():
    backbone = tiny_backbone("bert")
    batch = rows_of(backbone)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    torch.manual_seed(2)
    head = TokenHead(backbone.hidden_size, 2, dropout=0).eval()
    with torch.no_grad():
        deep, plain = backbone(**batch, every_layer=True), backbone(**batch)
        same = head_logits(head, backbone, deep, ids, mask)
    torch.testing.assert_close(same, head_logits(head, backbone, plain, ids, mask), rtol=0, atol=0)


def test_a_plan_knows_how_many_there_are():
    backbone = tiny_backbone("bert")
    assert len({site.layer for site in Blueprint(backbone).sites}) == backbone.depth
