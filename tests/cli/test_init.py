"""`foreword init`: recipes that load, teach, and do not overwrite."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from foreword.data.readers import read_records
from foreword.methods import METHODS, SSF, PTuningV2
from foreword.recipes import load_recipe
from foreword.recipes.schema import DataTable
from foreword.recipes.templates import ACTIVE, METHOD, OTHER_METHODS, SUFFIXES, WANTED, data_help, write_recipe
from foreword.recipes.templates.settings import list_settings, toml_value
from foreword.tasks import TASKS, Classification
from foreword.training.settings import TrainingSettings


@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_recipe_as_written_trains(place, tmp_path, monkeypatch, task):
    monkeypatch.chdir(tmp_path)
    for side in ("train", "dev"):
        (tmp_path / place.data(task, side).name).write_bytes(place.data(task, side).read_bytes())
    train, dev = (place.data(task, side).name for side in ("train", "dev"))
    wrote = place.run("init", task, "--output", "sub/mine.toml", "--train", train, "--dev", dev)
    assert (wrote.code, wrote.out) == (0, "wrote sub/mine.toml\n\nNext: foreword train sub/mine.toml\n")
    assert load_recipe("sub/mine.toml").data.train == (f"sub/../{train}",)  # as seen from the recipe
    changes = [f"backbone.name={place.backbone_of(task)}", "training.epochs=1"]
    result = place.run("train", "sub/mine.toml", *(word for change in changes for word in ("--set", change)))
    assert result.code == 0, result
    assert (tmp_path / "runs/mine/artifact").is_dir()


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_setting_is_there_with_its_default(tmp_path, task):
    text = write_recipe(task, name="x")
    plain, full = tmp_path / "plain.toml", tmp_path / "full.toml"
    plain.write_text(text)
    full.write_text(re.sub(r"^#(?=[\w.]+ = [^<])", "", text, flags=re.MULTILINE))
    assert load_recipe(plain).to_dict() == load_recipe(full).to_dict()
    written = tomllib.loads(re.sub(r"^#([\w.]+) = <.*>$", r"\1 = 'unset'", full.read_text(), flags=re.MULTILINE))
    assert set(written["training"]) == set(TrainingSettings.model_fields)
    assert set(written["task"]) == {"type", *TASKS[task].model_fields}
    method = METHODS[OTHER_METHODS.get(task, METHOD)]
    assert set(written["method"]) == {"type", *method.model_fields}
    assert set(written["data"]) == set(DataTable.model_fields)
    recipe = load_recipe(plain)
    wanted = {"method": {}, "training": {}}
    if method is PTuningV2:
        wanted["training"]["learning_rate"] = PTuningV2().default_learning_rate
    for path, value in WANTED.get(task, {}).items():
        section, _, name = path.partition(".")
        wanted[section][name] = value
    assert recipe.method == method(**wanted["method"])
    assert recipe.training == TrainingSettings(**wanted["training"])


@pytest.mark.parametrize("task", sorted(TASKS))
def test_the_example_of_the_data_is_read_by_the_task(tmp_path, task):
    lines = [line.strip() for line in data_help(task) if line.startswith("    ")]
    assert len(lines) == 2
    path = tmp_path / f"data{SUFFIXES.get(task, '.jsonl')}"
    path.write_text("\n".join(lines) + "\n")
    examples = TASKS[task]().read(read_records(path), labelled=True)
    assert len(examples) == (1 if task == "ner" else 2)


def test_what_is_active_exists():
    tables = {"task": Classification, "method": PTuningV2, "training": TrainingSettings, "data": DataTable}
    assert PTuningV2.name == METHOD
    for path in ACTIVE:
        section, _, name = path.rstrip(".").partition(".")
        assert section == "backbone" or name in tables[section].model_fields


def test_a_prompt_for_answers_begins_without_a_share_of_the_attention_beside_scale_and_shift(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe("qa", name="x"))
    prompt, modulation = load_recipe(path).method.parts
    assert prompt == PTuningV2(init="vocabulary", gate=True)
    assert modulation == SSF()


def test_nothing_is_overwritten(place, tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text("mine")
    place.refuse("init", "ner", "--output", path, says=(f"{path}: exists already", "--output"))
    assert path.read_text() == "mine"
    place.refuse("init", "nerr", "--output", tmp_path / "x.toml", says=("no task 'nerr'", "Did you mean 'ner'?"))
    place.refuse("init", "ner", "--output", path / "x.toml", says=("cannot be written",))


def test_settings_as_words():
    told = {setting.name: setting for setting in list_settings(TrainingSettings)}
    assert told["epochs"].type == "whole number (> 0)"
    assert told["max_length"].type == "whole number (> 0)"
    assert told["max_length"].default is None
    assert told["warmup_ratio"].type == "number (>= 0, < 1)"
    assert told["tensorboard"].type == "true or false"
    assert told["schedule"].default == '"linear"'
    assert next(s for s in list_settings(DataTable)).required
    assert toml_value(["a", 'b"c']) == '["a", "b\\"c"]'
    assert json.loads(toml_value([1, 2])) == [1, 2]
