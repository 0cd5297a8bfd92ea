"""`foreword tune` and `foreword ablate` as a user calls them."""

from __future__ import annotations

import json
import os
import signal
from importlib.util import find_spec

import pytest

from tiny_runs import Recorder

TUNE = ("--search", "prompt_length,learning_rate", "--trials", "2")


@pytest.fixture(scope="module")
def tuned(place, tmp_path_factory):
    """Folder of a finished search, and what was printed."""
    output = tmp_path_factory.mktemp("tuned") / "out"
    result = place.run("tune", place.recipe("classification"), *TUNE, "--output", output)
    assert result.code == 0, result
    return output, result


def test_tune_says_what_is_best_and_what_comes_next(tuned):
    output, result = tuned
    assert "trial 0 finished: accuracy " in result.err
    assert "No trial saw these data; they were scored once." in result.out
    assert f"Next:    foreword train {output}/best.toml" in result.out
    names = {path.name for path in output.iterdir()}
    assert {"best.toml", "journal.log", "search.json", "summary.md", "trials.csv", "trials.png"} < names
    assert len(names) == 7  # and the run of the best


def test_the_best_recipe_can_be_trained(place, tuned, tmp_path):
    assert place.run("train", tuned[0] / "best.toml", "--output", tmp_path / "run").code == 0


def test_tune_again_only_says_it_again(place, tuned):
    output, first = tuned
    again = place.run("tune", place.recipe("classification"), *TUNE, "--output", output)
    assert again.code == 0
    assert again.out == first.out
    assert again.err == ""


def test_tune_side_by_side(place, tmp_path):
    ran = place.run("tune", place.recipe("classification"), *TUNE, "--side-by-side", "2", "--output", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert {"trial 0, of 2", "trial 1, of 2"} <= {line.partition(":")[0] for line in ran.err.splitlines()}


def test_tune_side_by_side_refuses_what_changes_the_backbone(place, tmp_path):
    recipe = tmp_path / "lora.toml"
    recipe.write_text(place.recipe("classification").read_text().replace("prompt_length = 4", 'type = "lora"'))
    place.refuse(
        "tune",
        recipe,
        "--side-by-side",
        "2",
        "--output",
        tmp_path / "out",
        says=("method.type: 'lora' puts modules into the backbone", "without --side-by-side"),
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--search", "prompt_lenght"), ("--search prompt_lenght", "did you mean 'prompt_length'?")),
        (("--pruner", "mean"), ("--pruner mean: expected median, halving, none",)),
        (("--holdout", "1.5"), ("--holdout 1.5",)),
        (("--set", "training.epoch=1"), ("did you mean 'epochs'?",)),
    ],
)
def test_tune_refuses(place, tmp_path, options, says):
    recipe = place.recipe("classification")
    place.refuse("tune", recipe, *options, "--output", tmp_path / "out", says=says)
    assert not (tmp_path / "out").exists()


def test_tune_with_an_empty_file(place, tmp_path):
    (tmp_path / "empty.jsonl").touch()
    recipe = place.recipe("classification")
    place.refuse(
        "tune",
        recipe,
        "--set",
        f"data.train={tmp_path / 'empty.jsonl'}",
        "--output",
        tmp_path / "out",
        says=("empty.jsonl: no ",),
    )
    assert not (tmp_path / "out").exists()


def test_ctrl_c_stops_a_search_and_the_same_command_goes_on(place, tmp_path, monkeypatch):
    def stop(kind: str, step: int) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    command = ("tune", place.recipe("classification"), *TUNE, "--output", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr("foreword.training.progress.progress_tracker", lambda title: Recorder(stop))
        stopped = place.run(*command)
    assert stopped.code == 130
    assert "The same command goes on" in stopped.err
    again = place.run(*command)
    assert again.code == 0
    assert again.err.count("trial 0 finished") == 1


def test_tune_names_the_extra_it_needs(place, tmp_path, monkeypatch):
    monkeypatch.setattr("foreword.cli.tune.find_spec", lambda name: None if name == "optuna" else find_spec(name))
    place.refuse("tune", "rte-ptuning-v2", says=("pip install 'foreword[tune]'",))


def test_ablate_draws_and_tells(place, tmp_path):
    output = tmp_path / "out"
    command = ("ablate", place.recipe("classification"), "--vary", "gate", "--vary", "init", "--output", output)
    result = place.run(*command)
    assert result.code == 0, result
    assert result.err.count("where selected") == 3  # the recipe as it is serves both axes
    for axis in ("gate", "init"):
        assert f"Figure: {output}/{axis}.png" in result.out
        assert {path.suffix for path in output.glob(f"{axis}.*")} == {".png", ".md", ".json"}
    said = json.loads((output / "gate.json").read_text())
    assert [point["at"] for point in said["points"]] == ["false", "true"]
    drawn = place.run(*command, "--table")
    assert (drawn.out, drawn.err) == (result.out, "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--vary", "legth"), ("--vary legth",)),
        (("--vary", "gate", "--vary", "init", "--values", "a,b"), ("--values belong to one axis",)),
        (("--vary", "head", "--words", "a,b"), ("--words a,b: expected LABEL=WORD",)),
        (("--vary", "gate", "--seeds", "x"), ("--seeds x",)),
        (("--vary", "gate", "--table"), ("none of these runs is finished",)),
    ],
)
def test_ablate_refuses(place, tmp_path, options, says):
    place.refuse("ablate", place.recipe("classification"), *options, "--output", tmp_path / "out", says=says)
    assert not (tmp_path / "out").exists()
