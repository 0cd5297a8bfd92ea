"""A run that begins with the prompt of another begins where that one ended."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.data.sources import Source
from foreword.errors import ArtifactError, MethodError, RecipeError
from foreword.methods import FoldedPrompt, fold
from foreword.model import PromptedModel
from foreword.recipes import load_recipe, run_recipe
from foreword.training.prepared import prepare
from foreword.training.run import train_prepared
from foreword.training.settings import TrainingSettings
from foreword.training.transfer import Start
from plain import collated
from tiny import tiny_backbone
from tiny_artifacts import METHODS, answers_of, records, tiny_artifact, train_tiny
from tiny_runs import Recorder


def first_loss(method, start_from=None):
    """Loss of the first step over all four items, before anything has moved."""
    steps, data = Recorder(), records("classification")
    task, more = fw.Classification(dropout=0), {"epochs": 1, "batch_size": 4, "progress": False}
    fw.train(tiny_backbone(), method, task, train=data, dev=data, tracker=steps, start_from=start_from, **more)
    return steps.of("step")[0]["loss"]


def loss_of(prompt, method):
    """The same, of a model put together by hand: this prompt with the head that seed 11 makes."""
    settings = TrainingSettings(batch_size=4)
    data = Source.of(records("classification"))
    backbone = tiny_backbone()
    prepared = prepare(fw.Classification(dropout=0), data, data, backbone, settings)
    torch.manual_seed(settings.seed)
    model = PromptedModel(backbone, method, prepared.task.build_head(backbone.hidden_size, backbone)).eval()
    model.prompt = FoldedPrompt(prompt)
    with torch.no_grad():
        scores = model(collated(backbone, prepared.train.rows))
    labels = [prepared.task.labels.index(row["label"]) for row in records("classification")]
    return torch.nn.functional.cross_entropy(scores, torch.tensor(labels)).item()


@pytest.mark.parametrize("name", ["ptuning-v2", "ptuning-v2-mlp", "prompt-tuning", "ptuning-v2-gate", "prefix-tuning"])
def test_the_first_loss_is_that_of_the_other_prompt(name):
    path = tiny_artifact("ner", name)
    method = METHODS[name]
    method = method.model_copy(update={"dropout": 0.0})
    expected = loss_of(load_artifact(path).prompt, method)
    assert first_loss(method, str(path)) == pytest.approx(expected, rel=1e-5)
    assert first_loss(method) != pytest.approx(expected, rel=1e-5)


def test_nothing_but_the_prompt_is_taken_over():
    """The head is as fresh as without."""
    heads = [
        train_tiny("classification", "ptuning-v2", learning_rate=1e-12, head_learning_rate=1e-12, **more).model.head
        for more in ({}, {"start_from": str(tiny_artifact("classification", "ptuning-v2-some-layers"))})
    ]
    assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(*(head.parameters() for head in heads), strict=True))


def test_another_length_starts_its_first_positions():
    path = tiny_artifact("qa", "ptuning-v2")  # of 4 positions
    given = load_artifact(path).prompt
    data = records("classification")
    run = fw.train(
        tiny_backbone(),
        fw.PTuningV2(prompt_length=6),
        fw.Classification(),
        train=data,
        dev=data,
        progress=False,
        epochs=1,
        learning_rate=1e-12,
        start_from=str(path),
    )
    for site, pair in fold(run.model.prompt).prefix.items():
        torch.testing.assert_close(pair.key[:, :4], given.prefix[site].key, rtol=0, atol=1e-9)
        assert pair.key[:, 4:].abs().min() > 0


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if not method.tunes_backbone])
def test_with_the_same_method_and_its_head_it_answers_as_the_other_ended(name):
    """Whatever it trains: prompts behind an MLP, several of them and their shares, modules in the layers."""
    path, backbone = tiny_artifact("classification", name), tiny_backbone()
    artifact = load_artifact(path)
    model = PromptedModel(backbone, METHODS[name], artifact.task.build_head(backbone.hidden_size, backbone))
    fresh = answers_of(SimpleNamespace(task=artifact.task, backbone=backbone, model=model))
    Start(artifact, with_head=True).begin(model)
    begun = answers_of(SimpleNamespace(task=artifact.task, backbone=backbone, model=model))
    assert begun == answers_of(fw.load(path, tiny_backbone())) != fresh


def test_a_head_can_go_with_the_prompt_of_other_settings():
    """A longer prompt starts from the folded one, and the head is the other's."""
    path = tiny_artifact("classification", "ptuning-v2")
    artifact, backbone = load_artifact(path), tiny_backbone()
    model = PromptedModel(
        backbone, fw.PTuningV2(prompt_length=6), artifact.task.build_head(backbone.hidden_size, backbone)
    )
    Start(artifact, with_head=True).begin(model)
    assert all(torch.equal(tensor, artifact.head[name]) for name, tensor in model.head.state_dict().items())
    for site, pair in fold(model.prompt).prefix.items():
        assert torch.equal(pair.key[:, :4], artifact.prompt.prefix[site].key)


class TestRefused:
    def train(self, method="ptuning-v2", backbone=None, **settings):
        return train_tiny("classification", method, backbone, **settings)

    def test_another_backbone(self):
        path = tiny_artifact("ner", "ptuning-v2")
        with pytest.raises(ArtifactError, match=r"made for backbone .* differs in family"):
            self.train(backbone=tiny_backbone("electra"), start_from=str(path))

    def test_no_artifact(self, tmp_path):
        with pytest.raises(ArtifactError, match="no such folder"):
            self.train(start_from=tmp_path / "none")

    def test_an_artifact_without_a_prompt(self):
        with pytest.raises(ArtifactError, match=r"has no prompt to start from .its method is 'head-only'"):
            self.train(start_from=str(tiny_artifact("ner", "head-only")))

    def test_a_head_alone_unless_it_is_asked_for(self):
        path = str(tiny_artifact("classification", "head-only"))
        with pytest.raises(ArtifactError, match="has no prompt to start from"):
            self.train("head-only", start_from=path)
        self.train("head-only", start_from=path, start_head=True)

    def test_a_head_without_an_artifact(self):
        with pytest.raises(ValidationError, match=r"there is no artifact to take a head from"):
            self.train(start_head=True)

    def test_a_head_that_reads_other_layers(self):
        artifact, backbone = load_artifact(tiny_artifact("ner", "ptuning-v2")), tiny_backbone()
        ours = artifact.task.model_copy(update={"layers": "last", "transitions": {"O": {"O": 1}}})
        with pytest.raises(
            ArtifactError, match=r"this task has: it was trained with task\.layers 'all', here 'last' \('"
        ):
            Start(artifact, with_head=True).check_head(ours, ours.build_head(backbone.hidden_size, backbone))

    def test_a_prompt_that_means_nothing_by_itself(self):
        with pytest.raises(ArtifactError, match="trained together with changes of the backbone"):
            self.train(start_from=str(tiny_artifact("ner", "combined")))

    @pytest.mark.parametrize("method", ["head-only", "adapter"])
    def test_a_method_without_a_prompt(self, method):
        with pytest.raises(MethodError, match=rf"training\.start_from: the method '{method}' has no prompt"):
            self.train(method, start_from=str(tiny_artifact("ner", "ptuning-v2")))

    @pytest.mark.parametrize("method", ["prompt-tuning", "ptuning-v2-gate", "p-tuning"])
    def test_a_prompt_of_another_kind(self, method):
        with pytest.raises(MethodError, match=r"training\.start_from: "):
            self.train(method, start_from=str(tiny_artifact("ner", "ptuning-v2")))


RECIPE = """
[backbone]
name = "{backbone}"
[task]
type = "classification"
[data]
train = "data.jsonl"
dev = "data.jsonl"
[method]
type = "{method}"
[training]
epochs = 1
start_from = "{start}"
"""


class TestRecipe:
    def written(self, folder, start="$FOREWORD_TEST_ARTIFACT", method="ptuning-v2"):
        (folder / "data.jsonl").write_text("".join(json.dumps(item) + "\n" for item in records("classification")))
        text = RECIPE.format(backbone=tiny_backbone().name, start=start, method=method)
        (folder / "mine.toml").write_text(text)
        return folder / "mine.toml"

    def test_paths_are_the_recipes(self, tmp_path):
        recipe = load_recipe(self.written(tmp_path, "runs/first"))
        assert recipe.training.start_from == str(tmp_path / "runs/first")
        assert recipe.to_dict()["training"]["start_from"] == str(tmp_path / "runs/first")

    def test_an_unset_variable_is_told(self, tmp_path):
        with pytest.raises(RecipeError, match=r"training\.start_from: the environment variable FOREWORD_TEST_ARTIFACT"):
            load_recipe(self.written(tmp_path))

    def test_a_run_and_what_it_publishes(self, tmp_path):
        start = tiny_artifact("ner", "ptuning-v2")
        run = run_recipe(load_recipe(self.written(tmp_path, start)), tmp_path / "out")
        assert run.settings.start_from == str(start)
        published = load_artifact(tmp_path / "out").manifest.recipe["training"]["start_from"]
        assert published == start.name
        assert str(start) not in (tmp_path / "out/artifact/artifact.json").read_text()

    def test_a_prompt_that_does_not_fit_leaves_no_folder(self, tmp_path):
        start = tiny_artifact("ner", "ptuning-v2")
        recipe = load_recipe(self.written(tmp_path, start, "prompt-tuning"))
        with pytest.raises(MethodError, match=r"training\.start_from"):
            run_recipe(recipe, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_resumed_run_does_not_start_again(tmp_path):
    """What its checkpoint holds counts, not the prompt it once started from."""
    backbone, data = tiny_backbone(), Source.of(records("classification"))
    settings = TrainingSettings(epochs=2, batch_size=4, start_from=str(tiny_artifact("ner", "ptuning-v2")))
    method, checkpoint = METHODS["ptuning-v2"], tmp_path / "checkpoint.safetensors"
    prepared = prepare(fw.Classification(dropout=0), data, data, backbone, settings)
    whole = train_prepared(backbone, method, prepared, settings, checkpoint=checkpoint)
    again = train_prepared(backbone, method, prepared, settings, checkpoint=checkpoint, resume=True)
    for name, tensor in whole.model.state().items():
        assert torch.equal(again.model.state()[name], tensor)
