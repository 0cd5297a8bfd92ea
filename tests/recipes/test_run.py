"""Running a recipe: which files appear, when none may, and how an unfinished run goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.errors import BackboneError, CheckpointError, DataError, MethodError, OutputError
from foreword.recipes import load_recipe, run_recipe
from foreword.training.loop import Interrupted
from tiny import tiny_backbone_folder
from tiny_artifacts import records
from tiny_runs import Recorder

FINISHED = {"run.json", "recipe.toml", "log.jsonl", "artifact"}
UNFINISHED = {"run.json", "recipe.toml", "log.jsonl", "checkpoint.safetensors"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return tiny_backbone_folder("bert", tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def recipe(tmp_path, bert) -> fw.Recipe:
    """Four steps, an evaluation after every two."""
    lines = "".join(json.dumps(item) + "\n" for item in records("classification"))
    for name in ("train.jsonl", "dev.jsonl"):
        (tmp_path / name).write_text(lines)
    (tmp_path / "tiny.toml").write_text(
        f'[backbone]\nname = "{bert}"\n[task]\ntype = "classification"\n'
        '[data]\ntrain = "train.jsonl"\ndev = "dev.jsonl"\n'
        "[method]\nprompt_length = 4\n[training]\nepochs = 2\nbatch_size = 2\n"
    )
    return load_recipe(tmp_path / "tiny.toml")


def changed(recipe: fw.Recipe, *overrides: str) -> fw.Recipe:
    """The recipe of the same folder with other values."""
    return load_recipe(Path(recipe.data.train[0]).with_name("tiny.toml"), overrides)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stop_at(step: int) -> Recorder:
    """A tracker that asks for a stop as Ctrl-C does, in the middle of a run."""
    return Recorder(lambda kind, at: signal.raise_signal(signal.SIGINT) if (kind, at) == ("step", step) else None)


@pytest.fixture
def stopped(recipe, tmp_path) -> Path:
    """An unfinished run, three of four steps done."""
    with pytest.raises(Interrupted):
        run_recipe(recipe, tmp_path / "out", tracker=stop_at(3))
    return tmp_path / "out"


class TestFiles:
    def test_a_finished_run(self, recipe, tmp_path):
        run = run_recipe(recipe, tmp_path / "runs" / "tiny")
        out = tmp_path / "runs" / "tiny"
        assert names(out) == FINISHED
        assert names(out / "artifact") == {"artifact.json", "README.md", "prompt.safetensors", "unfolded.safetensors"}
        assert names(tmp_path / "runs") == {"tiny"}
        assert json.loads((out / "run.json").read_text()) == {"format": "foreword-run", "name": "tiny"}
        assert load_recipe(out / "recipe.toml") == recipe
        events = [json.loads(line)["event"] for line in (out / "log.jsonl").read_text().splitlines()]
        assert events == ["start", "evaluation", "evaluation", "end"]
        manifest = load_artifact(out).manifest
        assert manifest.recipe == {**recipe.to_dict(), "data": manifest.recipe["data"]}
        assert manifest.metrics.values == run.outcome.scores.values

    def test_an_unfinished_run(self, stopped):
        assert names(stopped) == UNFINISHED

    def test_an_empty_folder_is_good_enough(self, recipe, tmp_path):
        (tmp_path / "out").mkdir()
        run_recipe(recipe, tmp_path / "out")
        assert names(tmp_path / "out") == FINISHED

    def test_the_resolved_recipe_makes_the_same_prompt(self, recipe, tmp_path):
        run_recipe(recipe, tmp_path / "one")
        run_recipe(load_recipe(tmp_path / "one" / "recipe.toml"), tmp_path / "two")
        one, two = (load_file(tmp_path / out / "artifact" / "prompt.safetensors") for out in ("one", "two"))
        assert one.keys() == two.keys()
        assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


class TestNothingIsWritten:
    @pytest.mark.parametrize(
        ("overrides", "error"),
        [
            (("data.train=none.jsonl",), DataError),
            (("data.dev=none.jsonl",), DataError),
            (("task.columns.text=sentence",), DataError),
            (("task.labels=['maybe']",), DataError),
            (("backbone.name=./none",), BackboneError),
            (("method.layers=7-9",), MethodError),
            (("method.layers=most",), MethodError),
        ],
    )
    def test_when_something_does_not_fit(self, recipe, tmp_path, overrides, error):
        with pytest.raises(error):
            run_recipe(changed(recipe, *overrides), tmp_path / "deep" / "out")
        assert not (tmp_path / "deep").exists()

    def test_when_a_later_line_is_bad(self, recipe, tmp_path):
        with (tmp_path / "dev.jsonl").open("a") as file:
            file.write('{"text": 5}\n')
        with pytest.raises(DataError, match=r"dev\.jsonl:5"):
            run_recipe(recipe, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestFolders:
    @pytest.mark.parametrize("resume", [True, False])
    def test_a_finished_run_is_kept(self, recipe, tmp_path, resume):
        run_recipe(recipe, tmp_path / "out")
        before = (tmp_path / "out" / "log.jsonl").read_bytes()
        with pytest.raises(OutputError, match="holds a finished run already"):
            run_recipe(recipe, tmp_path / "out", resume=resume)
        assert (tmp_path / "out" / "log.jsonl").read_bytes() == before

    def test_an_unfinished_run_is_kept_unless_resumed(self, recipe, stopped):
        before = (stopped / "checkpoint.safetensors").read_bytes()
        with pytest.raises(OutputError, match=r"holds an unfinished run. Go on with --resume"):
            run_recipe(recipe, stopped)
        assert (stopped / "checkpoint.safetensors").read_bytes() == before

    @pytest.mark.parametrize("resume", [True, False])
    def test_what_is_not_ours_is_kept(self, recipe, tmp_path, resume):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "letter.txt").write_text("dear")
        for place in (tmp_path / "out", tmp_path / "out" / "letter.txt"):
            with pytest.raises(OutputError, match="no run to resume here" if resume else "not a folder of ours"):
                run_recipe(recipe, place, resume=resume)
        assert names(tmp_path / "out") == {"letter.txt"}

    def test_nothing_to_resume(self, recipe, tmp_path):
        with pytest.raises(OutputError, match=r"no run to resume here. Leave --resume out"):
            run_recipe(recipe, tmp_path / "out", resume=True)
        assert not (tmp_path / "out").exists()


class TestResume:
    def test_comes_to_the_bits_of_an_uninterrupted_run(self, recipe, stopped, tmp_path):
        run_recipe(recipe, tmp_path / "whole")
        run_recipe(recipe, stopped, resume=True)
        assert names(stopped) == FINISHED
        whole, resumed = (load_file(out / "artifact" / "prompt.safetensors") for out in (tmp_path / "whole", stopped))
        assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())

    def test_goes_on_in_the_log(self, recipe, stopped):
        run_recipe(recipe, stopped, resume=True)
        log = [json.loads(line) for line in (stopped / "log.jsonl").read_text().splitlines()]
        assert [(entry["step"], entry["resumed_at"]) for entry in log if entry["event"] == "start"] == [(0, 0), (3, 3)]
        assert [entry["step"] for entry in log if entry["event"] == "evaluation"] == [2, 4]

    @pytest.mark.parametrize("override", ["training.epochs=3", "method.dropout=0.2", "task.pooling=first"])
    def test_refuses_another_recipe_and_touches_nothing(self, recipe, stopped, override):
        before = {path.name: path.read_bytes() for path in stopped.iterdir()}
        with pytest.raises(CheckpointError, match="belongs to another recipe or other data"):
            run_recipe(changed(recipe, override), stopped, resume=True)
        assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before

    def test_refuses_other_data(self, recipe, stopped, tmp_path):
        text = (tmp_path / "train.jsonl").read_text()
        (tmp_path / "train.jsonl").write_text(text.replace("London", "Paris", 1))
        with pytest.raises(CheckpointError, match="belongs to another recipe or other data"):
            run_recipe(recipe, stopped, resume=True)

    def test_from_another_folder(self, recipe, stopped, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        run_recipe(load_recipe("tiny.toml"), stopped, resume=True)
        assert names(stopped) == FINISHED

    def test_a_run_that_never_got_to_a_checkpoint_starts_anew(self, recipe, stopped):
        (stopped / "checkpoint.safetensors").unlink()
        run_recipe(recipe, stopped, resume=True)
        events = [json.loads(line) for line in (stopped / "log.jsonl").read_text().splitlines()]
        assert [entry["resumed_at"] for entry in events if entry["event"] == "start"] == [0]

    def test_a_damaged_checkpoint(self, recipe, stopped):
        path = stopped / "checkpoint.safetensors"
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(CheckpointError, match="damaged"):
            run_recipe(recipe, stopped, resume=True)


def test_an_artifact_names_its_data_but_not_where_they_lay(recipe, tmp_path):
    run_recipe(recipe, tmp_path / "out")
    recorded = load_artifact(tmp_path / "out").manifest.recipe["data"]
    assert (recorded["train"], recorded["dev"]) == (["train.jsonl"], ["dev.jsonl"])
    assert str(tmp_path) not in (tmp_path / "out" / "artifact" / "README.md").read_text()


class TestTestFiles:
    def test_they_are_scored_once_by_the_weights_that_were_best_on_dev(self, recipe, tmp_path):
        run = run_recipe(changed(recipe, "data.test=dev.jsonl"), tmp_path / "out")
        manifest = load_artifact(tmp_path / "out").manifest
        assert run.test is not None
        assert manifest.test is not None
        assert manifest.test.values == run.test.values == run.outcome.scores.values  # the same file twice
        assert manifest.data["test"].examples == manifest.data["dev"].examples

    def test_there_need_not_be_any(self, recipe, tmp_path):
        assert run_recipe(recipe, tmp_path / "out").test is None
        assert load_artifact(tmp_path / "out").manifest.test is None

    def test_with_a_holdout_nothing_of_the_test_files_is_selected_on(self, recipe, tmp_path):
        whole = changed(recipe).data.source("train")
        held = changed(recipe, "data.holdout=0.5", "data.dev=[]", "data.test=dev.jsonl")
        run = run_recipe(held, tmp_path / "out")
        train, dev, test = (run.prepared.entries[side].examples for side in ("train", "dev", "test"))
        assert train + dev == len(list(whole.records())) == test
        assert dev == round(0.5 * test)
