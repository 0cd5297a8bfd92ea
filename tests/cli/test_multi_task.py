"""`foreword train` with a recipe of several tasks."""

from __future__ import annotations

import json
import shlex

import pytest


@pytest.fixture(scope="module")
def together(place, tmp_path_factory):
    """The folder of a finished run, and what was printed."""
    folder = tmp_path_factory.mktemp("together")
    entries = "".join(
        f'[tasks.{name}]\nrecipe = "{place.recipe(task, folder)}"\n'
        for name, task in (("tickets", "classification"), ("diary", "ner"))
    )
    shared = f'[backbone]\nname = "{place.backbone}"\n[method]\nprompt_length = 4\n[training]\nepochs = 1\n'
    (folder / "both.toml").write_text(entries + shared)
    result = place.run("train", folder / "both.toml", "--output", folder / "run")
    assert result.code == 0, result
    return folder / "run", result


def test_every_task_is_reported_and_what_comes_next(together):
    output, result = together
    header, *rows = result.out.splitlines()[:3]
    assert header.split() == ["task", "metric", "dev", "test", "trained", "artifact"]
    for row, name in zip(rows, ("tickets", "diary"), strict=True):
        manifest = json.loads((output / "artifacts" / name / "artifact.json").read_text())
        main = manifest["metrics"]["main"]
        assert row.split()[:3] == [name, main, f"{manifest['metrics']['values'][main]:.4f}"]
        assert f"{output}/artifacts/{name} (" in row
    assert f"--set training.start_from={output}/artifacts/tickets --set training.start_head=true" in result.out
    assert "mean " in result.err
    assert "tickets " in result.err


def test_what_comes_next_can_be_typed(place, together, tmp_path):
    output, result = together
    _, _, told = result.out.strip().splitlines()[-1].partition("from there: ")
    program, *again = shlex.split(told.replace("RECIPE", str(place.recipe("classification", tmp_path))))
    assert program == "foreword"
    assert place.run(*again, "--output", tmp_path / "alone").code == 0
    told = place.run("inspect", output / "artifacts" / "tickets").out
    assert "together with" in told
    assert "diary" in told


def test_every_artifact_answers_alone(place, together):
    output, _ = together
    answer = place.run("predict", output / "artifacts" / "diary", stdin=b'{"text": "Anna is in London."}\n')
    assert "entities" in json.loads(answer.out)
    place.refuse("predict", output, says=("a run of several tasks", f"{output}/artifacts/diary"))


def test_other_commands_expect_one_task(place, together):
    recipe = together[0].parent / "both.toml"
    place.refuse("tune", recipe, says=("a recipe of several tasks, where one of a single task is expected",))
