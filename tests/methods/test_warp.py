"""WARP's prompt: mask tokens to begin with, around the text and the mask."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

import foreword as fw
from foreword.errors import MethodError
from foreword.injection import Anchor, Injection
from foreword.methods import WARP, Blueprint, fold
from plain import TEXTS, batch_of, plain_model, row_of
from tiny import tiny_backbone


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_every_vector_starts_as_the_mask_token(family):
    backbone = tiny_backbone(family)
    encoder = WARP(template=(2, "text", 3)).build(backbone)
    mask = backbone.model.get_input_embeddings().weight[backbone.tokenizer.mask_token_id]
    assert torch.equal(encoder.vectors, mask.expand(5, -1))
    assert encoder.anchors == (Anchor.AFTER_FIRST,) * 2 + (Anchor.BEFORE_LAST,) * 3


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_untrained_it_is_a_text_with_mask_tokens(family):
    """So the bare model on that text, its tokens written out, sees the same: RTE's template in the authors' code."""
    backbone = tiny_backbone(family)
    tokenizer = backbone.tokenizer
    template = (5, "text", 5, "mask", 5, "pair", 5)
    row = row_of(backbone, f"{TEXTS[0]} {tokenizer.mask_token}", TEXTS[2])
    with torch.no_grad():
        (states,) = backbone(
            **batch_of(backbone, [row]), injection=Injection([WARP(template=template).build(backbone)()])
        )
    ids, masks = row["input_ids"], [tokenizer.mask_token_id] * 5
    at, end = ids.index(tokenizer.mask_token_id), len(ids) - 1
    parts = [(ids[:1], True), (masks, False), (ids[1:at], True), (masks, False), (ids[at : at + 1], True)]
    parts += [(masks, False), (ids[at + 1 : end], True), (masks, False), (ids[end:], True)]
    tokens, ours = (torch.tensor(values) for values in zip(*((i, real) for p, real in parts for i in p), strict=True))
    inputs = {"input_ids": tokens[None], "attention_mask": torch.ones_like(tokens)[None]}
    if family == "bert":
        types = torch.zeros_like(tokens)
        types[ours] = torch.tensor(row["token_type_ids"])
        inputs["token_type_ids"] = types[None]
    with torch.no_grad():
        expected = plain_model(backbone)(**inputs).last_hidden_state[0, ours]
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("template", [(2, "text", 2), (2, "text", 1, "mask", 2)])
def test_with_a_learned_verbalizer_it_trains_and_answers_the_same_from_disk(tmp_path, template):
    backbone = tiny_backbone(language_model=True)
    data = [{"text": text, "label": str(number % 2)} for number, text in enumerate(TEXTS)]
    task = fw.Classification(head="learned-verbalizer", template="{text} It was {mask}.")
    settings = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-2, "progress": False}
    run = fw.train(backbone, WARP(template=template), task, train=data, dev=data, **settings)
    trained = dict(run.model.trainable())
    assert {name.partition(".")[0] for name in trained} == {"prompt", "head"}
    mask = backbone.model.get_input_embeddings().weight[backbone.tokenizer.mask_token_id]
    assert (trained["prompt.vectors"] != mask).any(1).all()
    run.save(tmp_path / "a")
    before = fw.load(tmp_path / "a", backbone).predict(data)
    again = fw.load(tmp_path / "a", tiny_backbone(language_model=True)).predict(data)
    assert before == again
    assert [answer["label"] for answer in before] == [p.label for p in run.outcome.predictions]


def test_a_backbone_without_a_mask_token(backbone):
    backbone.tokenizer.mask_token = None
    with pytest.raises(MethodError, match="start from the mask token, and this backbone has none"):
        WARP().build(backbone)


def test_the_default_needs_no_mask_in_the_row_and_takes_20_positions():
    assert WARP().positions_taken == 20
    assert set(WARP().build(tiny_backbone()).anchors) == {Anchor.AFTER_FIRST, Anchor.BEFORE_LAST}


def test_shapes_are_known_without_numbers():
    blueprint = Blueprint(tiny_backbone("electra"))
    with torch.device("meta"):
        prompt = fold(WARP().build(blueprint))
    assert prompt.inputs.vectors.is_meta
    assert prompt.inputs.vectors.shape == (20, 16)


@pytest.mark.parametrize("bad", [{"template": (3,)}, {"dropout": -0.1}, {"init": "mask"}])
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        WARP(**bad)
