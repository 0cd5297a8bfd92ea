"""Heads on the last layer, or on the embeddings and all layers side by side."""

from __future__ import annotations

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.errors import BackboneError
from foreword.model import PromptedModel
from foreword.studies.parameters import head_parameters
from foreword.tasks import TASKS as TABLE
from foreword.tasks.making.depth import Depth
from plain import collated
from tiny import tiny_backbone
from tiny_artifacts import answers_of, records
from tiny_runs import TASKS, tiny_data, tiny_trainer

DEEP = {name: task for name, task in TASKS.items() if isinstance(task, Depth)}
WORDS = {"ner", "srl", "qa"}


def test_words_and_answers_are_read_from_all_layers_by_default():
    assert {name for name, task in TABLE.items() if issubclass(task, Depth)} == set(DEEP)
    assert {name for name, task in DEEP.items() if task.layers == "all"} == WORDS


@pytest.mark.parametrize("name", DEEP)
def test_the_head_is_as_wide_as_what_it_reads(name):
    backbone = tiny_backbone()
    states = backbone.depth + 1
    heads = {}
    for layers in ("last", "all"):
        head = DEEP[name].model_copy(update={"layers": layers}).build_head(backbone.hidden_size, backbone)
        assert head.every_layer == (layers == "all")
        heads[layers] = {name: weight.shape for name, weight in head.named_parameters()}
    changed = [name for name, shape in heads["last"].items() if heads["all"][name] != shape]
    assert changed
    for name in changed:
        assert heads["all"][name] == (heads["last"][name][0], states * heads["last"][name][1])


def test_a_tanh_layer_stays_as_wide_as_the_backbone():
    backbone = tiny_backbone()
    head = fw.Classification(labels=("a", "b"), layers="all", hidden_layer=True).build_head(8, backbone)
    assert [weight.shape for weight in head.parameters() if weight.dim() == 2] == [
        (8, 8 * (backbone.depth + 1)),
        (2, 8),
    ]


@pytest.mark.parametrize("name", DEEP)
def test_without_a_backbone_nobody_knows_how_many_there_are(name):
    DEEP[name].model_copy(update={"layers": "last"}).build_head(8)
    with pytest.raises(BackboneError, match=r"task\.layers = 'all' needs the backbone"):
        DEEP[name].model_copy(update={"layers": "all"}).build_head(8)


def test_words_of_a_language_model_have_no_depth():
    with pytest.raises(ValueError, match="has no meaning with head = 'verbalizer'"):
        fw.Classification(head="verbalizer", template="{text} {mask}", verbalizer={"a": "it"}, layers="all")


def test_the_default_head_is_counted_as_it_is_built():
    backbone = tiny_backbone()
    head = fw.Classification(labels=("a", "b", "c")).build_head(backbone.hidden_size, backbone)
    assert head_parameters(backbone, 3) == sum(weight.numel() for weight in head.parameters())


@pytest.mark.parametrize("name", DEEP)
def test_logits_are_of_the_layers_named(name):
    """Where the weights for all layers but the last are 0, a head on all answers as one on the last."""
    backbone = tiny_backbone()
    model = {}
    for layers in ("last", "all"):
        torch.manual_seed(1)
        task = DEEP[name].model_copy(update={"layers": layers})
        head = task.build_head(backbone.hidden_size, backbone)
        model[layers] = PromptedModel(backbone, fw.PTuningV2(prompt_length=2), head).eval()
    size = backbone.hidden_size
    with torch.no_grad():
        for name_, wide in model["all"].head.named_parameters():
            narrow = dict(model["last"].head.named_parameters())[name_]
            if wide.shape == narrow.shape:
                wide.copy_(narrow)
                continue
            blocks = narrow.shape[1] // size  # a marked head reads the text and every stretch one after the other
            wide.zero_()
            wide.view(len(wide), blocks, -1, size)[:, :, -1] = narrow.view(len(narrow), blocks, size)
        model["all"].prompt.load_state_dict(model["last"].prompt.state_dict())
        batch = collated(backbone, tiny_data(DEEP[name], backbone, 4).rows)
        torch.testing.assert_close(model["all"](batch), model["last"](batch), rtol=1e-5, atol=1e-5)


def test_the_loss_reaches_every_layer_by_itself():
    trainer = tiny_trainer(task="ner", epochs=1)
    weight = trainer.model.head.linear.weight
    before = weight.detach().clone()
    trainer.fit()
    size = tiny_backbone().hidden_size
    moved = (weight.detach() - before).abs().amax(0).view(-1, size)
    assert len(moved) == tiny_backbone().depth + 1
    assert (moved.amax(-1) > 0).all()


@pytest.mark.parametrize(("task", "layers"), [("ner", "last"), ("classification", "all"), ("qa", "last")])
def test_an_artifact_remembers_which(tmp_path, task, layers):
    backbone, data = tiny_backbone(), records(task)
    chosen = TABLE[task](layers=layers)
    run = fw.train(
        backbone, fw.PTuningV2(prompt_length=3), chosen, train=data, dev=data, progress=False, epochs=1, batch_size=2
    )
    run.save(tmp_path / "a")
    predictor = fw.load(tmp_path / "a", backbone)
    assert predictor.task.layers == layers
    assert predictor.model.head.every_layer == (layers == "all")
    first, again = answers_of(predictor), answers_of(fw.load(tmp_path / "a", backbone))
    assert first == again
    saved, trained = load_artifact(tmp_path / "a").head, run.model.head.state_dict()
    assert saved.keys() == trained.keys()
    assert all(torch.equal(saved[name], weight.cpu()) for name, weight in trained.items())
