"""A small study: two data sets, two methods, two seeds, a search, and a tiny backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from foreword.studies.cells.running import run_study
from foreword.studies.cells.study_file import load_study
from tiny import tiny_backbone_folder
from tiny_artifacts import records

STUDY = """\
name = "small"
recipes = ["places.toml", "people.toml"]
methods = ["full", "prompt"]
seeds = [11, 12]
holdout = 0.25
trials = 2

[set]
"training.epochs" = 2

[recipe.people.set]
"training.batch_size" = 3

[recipe.people.method.full.set]
"training.warmup_ratio" = 0

[method.full]
set = { "method.type" = "fine-tuning" }
search = [ { "training.learning_rate" = 1e-3 }, { "training.learning_rate" = 1e-2 }, { "training.epochs" = 9 } ]

[method.prompt]
label = "Short prompt"
set = { "method.type" = "ptuning-v2", "method.prompt_length" = 2 }
search = [ { "training.learning_rate" = 1e-2 }, { "training.learning_rate" = 1e-1 } ]
trial_set = { "training.epochs" = 1 }
"""


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone_folder("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def study_file(tmp_path: Path, bert: Path) -> Path:
    """A study with its recipes and data, in a folder of their own."""
    return write_study(tmp_path, bert)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> tuple[Path, Path, list[str]]:
    """A study file, the folder of its results, and the names of its cells as they were run. Not to be changed."""
    path, ran = write_study(tmp_path_factory.mktemp("study"), bert), []
    run_study(load_study(path), path.with_name("out"), report=lambda cell, record: ran.append(cell.name))
    return path, path.with_name("out"), ran


def write_study(tmp_path: Path, bert: Path) -> Path:
    for name, task in (("places", "classification"), ("people", "ner")):
        items = records(task)
        (tmp_path / f"{name}-train.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items * 2))
        (tmp_path / f"{name}-dev.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
        (tmp_path / f"{name}.toml").write_text(
            f'[backbone]\nname = "{bert}"\n[task]\ntype = "{task}"\n'
            f'[data]\ntrain = "{name}-train.jsonl"\ndev = "{name}-dev.jsonl"\n[training]\nbatch_size = 2\n'
        )
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path
