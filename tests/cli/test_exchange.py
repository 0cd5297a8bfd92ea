"""`foreword import` and `foreword export`: what they print, what they refuse, and what they leave behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from foreign import LENGTH, make_adapter
from foreword.backbones import load_backbone


@pytest.fixture(scope="module")
def adapter(place):
    folder = place.folder / "adapter"
    make_adapter(load_backbone(str(place.backbone)), "PREFIX_TUNING", "TOKEN_CLS", folder)
    return folder


@pytest.fixture
def options(place, tmp_path):
    return ("--backbone", place.backbone, "--output", tmp_path / "ours")


def nothing_was_left(tmp_path):
    return [path.name for path in tmp_path.iterdir() if "ours" in path.name] == []


def test_in_look_use_and_out_again(place, adapter, options, tmp_path):
    tags = ("--task", "ner", "--labels", "O, B-PER, I-PER")
    result = place.run("import", "peft", adapter, *options, *tags)
    assert result.code == 0, result
    assert str(tmp_path / "ours") in result.out
    assert result.err == ""
    shown = place.run("inspect", tmp_path / "ours")
    assert shown.code == 0
    assert "PREFIX_TUNING" in shown.out
    assert "Training" not in shown.out
    answer = place.run("predict", tmp_path / "ours", stdin=b'{"tokens": ["Anna", "slept"]}\n')
    assert answer.code == 0, answer
    assert "entities" in json.loads(answer.out)
    out = place.run("export", "peft", tmp_path / "ours", "--output", tmp_path / "again")
    assert out.code == 0, out
    assert {path.name for path in (tmp_path / "again").iterdir()} == {path.name for path in adapter.iterdir()}


def test_a_task_from_a_recipe(place, options, tmp_path):
    np.save(tmp_path / "prompt.npy", np.ones((LENGTH, 32), dtype=np.float32))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[task]\ntype = "classification"\ncolumns.text = "body"\n[data]\ntrain = "x"\n')
    result = place.run("import", "google", tmp_path / "prompt.npy", *options, "--task", recipe, "--prompt-only")
    assert result.code == 0, result
    manifest = json.loads((tmp_path / "ours" / "artifact.json").read_text())
    assert manifest["task"]["settings"]["columns"]["text"] == "body"
    assert place.run("export", "google", tmp_path / "ours", "--output", tmp_path / "x.npy").code == 0
    place.refuse("predict", tmp_path / "ours", says=("without a head",))


def test_another_models_name_is_told_on_stderr(place, options, tmp_path):
    backbone = load_backbone(str(place.backbone))
    make_adapter(backbone, "PROMPT_TUNING", "FEATURE_EXTRACTION", tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "bert-large-cased"}))
    result = place.run("import", "peft", tmp_path / "adapter", *options, "--task", "ner", "--prompt-only")
    assert result.code == 0
    assert "warning: the adapter names the model 'bert-large-cased'" in result.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("import", "lora", "adapter", "--task", "ner"), ("no format to import 'lora'", "peft, ptuning-v2")),
        (("import", "google", "no-such.npy", "--task", "ner"), ("no-such.npy",)),
        (("import", "google", "bad.npy", "--task", "ner"), ("bad.npy", "numpy array")),
        (("import", "google", "narrow.npy", "--task", "ner"), ("narrow.npy", "another backbone")),
        (("import", "google", "good.npy", "--task", "ner"), ("brings no head", "--prompt-only")),
        (("import", "google", "good.npy", "--task", "cooking"), ("task.type: 'cooking' is not one of",)),
        (("import", "google", "good.npy", "--task", "no-such.toml"), ("no-such.toml: no such file",)),
        (("import", "google", "good.npy", "--task", "qa", "--labels", "a,b"), ("--labels", "'qa' has none")),
        (("import", "ptuning-v2", "evil.bin", "--task", "ner"), ("evil.bin", "plain tensors")),
        (("import", "peft", ".", "--task", "ner"), ("holds none of adapter_config.json",)),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_written(words, says, place, options, tmp_path):
    (tmp_path / "bad.npy").write_text("no array")
    np.save(tmp_path / "narrow.npy", np.ones((2, 8), dtype=np.float32))
    np.save(tmp_path / "good.npy", np.ones((2, 32), dtype=np.float32))
    torch.save({"prefix_encoder.embedding.weight": tmp_path}, tmp_path / "evil.bin")
    verb, form, source, *rest = words
    rest = [str(tmp_path / word) if word.endswith(".toml") else word for word in rest]
    place.refuse(verb, form, tmp_path / source, *rest, *options, says=says)
    assert nothing_was_left(tmp_path)


def test_a_place_that_is_taken_is_left_as_it_was(place, adapter, options, tmp_path):
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "letter").write_text("dear")
    place.refuse("import", "peft", adapter, *options, "--task", "ner", says=("exists already",))
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["letter"]


def test_what_the_other_format_cannot_say(place, trained, tmp_path):
    run, _ = trained["ner"]
    place.refuse("export", "peft", run, "--output", tmp_path / "ours", says=("method.shift_positions = true",))
    place.refuse("export", "google", run, "--output", tmp_path / "ours", "--prompt-only", says=("keys and values",))
    place.refuse("export", "onnx", run, "--output", tmp_path / "ours", says=("no format to export to 'onnx'",))
    assert nothing_was_left(tmp_path)
