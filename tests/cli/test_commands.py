"""Every command once from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from unittest.mock import Mock

import pytest

from foreword.cli import main as cli
from foreword.methods import METHODS
from foreword.tasks import TASKS, WritingTask

TASK_NAMES = sorted(TASKS)


@pytest.mark.parametrize("task", TASK_NAMES)
def test_train_reports_scores_sizes_and_what_comes_next(trained, task):
    output, result = trained[task]
    main_score = json.loads((output / "artifact" / "artifact.json").read_text())["metrics"]["main"]
    assert main_score in result.out
    assert "trained parameters" in result.out
    assert f"{output}/artifact (" in result.out
    assert f"Next: foreword predict {output}/artifact" in result.out
    assert "training: " in result.err  # progress does not mix with results
    assert "done after " in result.err
    assert sorted(p.name for p in output.iterdir()) == ["artifact", "log.jsonl", "recipe.toml", "run.json"]


@pytest.mark.parametrize("task", TASK_NAMES)
def test_evaluate_gives_the_scores_of_training_again(place, trained, task):
    output, _ = trained[task]
    recorded = json.loads((output / "artifact" / "artifact.json").read_text())["metrics"]
    result = place.run("evaluate", output, "--data", place.data(task, "dev"), "--json")
    assert result.code == 0
    assert json.loads(result.out) == recorded
    table = place.run("evaluate", output, "--data", place.data(task, "dev")).out
    for name, value in recorded["values"].items():
        assert name.partition("/")[0] in table
        assert f"{value:.4f}" in table
    for name, count in recorded["counts"].items():
        assert name.rpartition("/")[2] in table
        assert f"{count:,}" in table


class TestEnsembles:
    def members(self, trained):
        return [trained["classification"][0], trained["classification"][0] / "artifact"]

    def test_two_that_are_equal_score_as_one(self, place, trained):
        data = ("--data", place.data("classification", "dev"))
        recorded = json.loads(place.run("evaluate", self.members(trained)[0], *data, "--json").out)
        result = place.run("evaluate", *self.members(trained), *data, "--json")
        assert result.code == 0
        told = json.loads(result.out)
        assert told.pop("agreement") == 1
        members = told.pop("members")
        assert [member.pop("artifact") for member in members] == [str(path) for path in self.members(trained)]
        assert [told, *members] == [recorded] * 3
        table = place.run("evaluate", *self.members(trained), *data, "--vote", "majority").out
        value = recorded["values"][recorded["main"]]
        assert [line.split()[-3:] for line in table.splitlines() if line.startswith("mean")] == [
            [f"{value:.4f}", "±", "0.0000"]
        ]

    def test_their_answers_tell_who_agrees(self, place, trained):
        line = json.dumps({"text": "Anna visited London"}).encode() + b"\n"
        alone = json.loads(place.run("predict", self.members(trained)[0], stdin=line).out)
        result = place.run("predict", *self.members(trained), "--vote", "majority", stdin=line)
        assert result.code == 0
        told = json.loads(result.out)
        assert told.pop("agreement") == 1
        assert [member["task"] for member in told.pop("members")] == [str(path) for path in self.members(trained)]
        assert told.keys() == alone.keys()
        assert told["label"] == alone["label"]
        assert told["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["--trunk-cache", "memory"], "--trunk-cache is for one ARTIFACT"),
            (["--vote", "most"], "Invalid value for '--vote'"),
        ],
    )
    def test_refused(self, place, trained, words, told):
        data = ("--data", place.data("classification", "dev"))
        for command in (("evaluate", *data), ("predict",)):
            result = place.run(*command, *self.members(trained), *words)
            assert result.code != 0
            assert told in result.err

    def test_one_that_comes_twice_is_refused(self, place, trained):
        twice = [self.members(trained)[0]] * 2
        result = place.run("evaluate", *twice, "--data", place.data("classification", "dev"))
        assert result.code != 0
        assert f"{twice[0]}: comes twice among the members" in result.err

    def test_a_vote_of_one_is_refused(self, place, trained):
        data = ("--data", place.data("classification", "dev"))
        result = place.run("evaluate", self.members(trained)[0], *data, "--vote", "mean")
        assert result.code != 0
        assert "--vote is for several artifacts" in result.err

    def test_members_of_different_tasks_are_refused(self, place, trained):
        paths = [trained[task][0] for task in ("classification", "ner")]
        result = place.run("evaluate", *paths, "--data", place.data("classification", "dev"))
        assert result.code != 0
        assert "an ensemble answers one task" in result.err


@pytest.mark.parametrize("task", TASK_NAMES)
def test_inspect_tells_what_the_artifact_is(place, trained, task):
    output, _ = trained[task]
    manifest = json.loads((output / "artifact" / "artifact.json").read_text())
    told = place.run("inspect", output)
    assert told.code == 0
    for text in (
        task,
        "ptuning-v2",
        "prompt_length = 4",
        str(place.backbone_of(task)),
        manifest["backbone"]["weights"],
    ):
        assert text in told.out
    stack = "decoder" if issubclass(TASKS[task], WritingTask) else "encoder"
    for text in (f"4 positions each at {stack}.0", "prompt.safetensors", "epochs", manifest["metrics"]["main"]):
        assert text in told.out
    assert json.loads(place.run("inspect", output, "--json").out) == manifest


def test_train_writes_to_runs_unless_told_otherwise(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = place.run("train", place.recipe("classification"), "--tensorboard")
    assert result.code == 0, result
    assert (tmp_path / "runs/classification/artifact/prompt.safetensors").is_file()
    assert any((tmp_path / "runs/classification/tensorboard").iterdir())


def test_predict_answers_a_pipe_in_order_while_it_still_flows(place, trained):
    lines = [json.dumps({"id": n, "text": f"Message {n}", "extra": None}).encode() + b"\n" for n in range(600)]
    process = place.start("predict", trained["classification"][0])
    guard = threading.Timer(180, process.kill)
    guard.start()
    process.stdin.write(b"".join(lines[:300]))
    process.stdin.flush()
    first = process.stdout.readline()  # comes before the input has ended
    process.stdin.write(b"".join(lines[300:]))
    process.stdin.close()
    answers = [json.loads(line) for line in (first, *process.stdout)]
    guard.cancel()
    assert process.wait() == 0
    assert process.stderr.read() == b""
    assert [answer["id"] for answer in answers] == [str(n) for n in range(600)]


def test_predict_ends_quietly_when_nobody_reads_on(place, trained):
    process = place.start("predict", trained["classification"][0])
    process.stdout.close()
    _, err = process.communicate(b'{"text": "Hello"}\n' * 300, timeout=180)
    assert process.returncode == 1
    assert err == b""


def test_predict_counts_on_over_blocks(place, trained):
    result = place.run("predict", trained["classification"][0], stdin=b'{"text": "Hello"}\n' * 300)
    assert [json.loads(line)["id"] for line in result.out.splitlines()] == [str(n) for n in range(300)]


def test_predict_from_file_to_file(place, trained, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"tokens": ["Zoë", "met", "Łukasz"]}\n\n{"text": "Zoë met Łukasz."}\n', "utf-8")
    target.write_text("old\n")
    result = place.run("predict", trained["ner"][0], "--input", source, "--output", target, "--batch-size", 1)
    assert (result.code, result.out) == (0, "")
    answers = target.read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in answers] == ["Zoë met Łukasz", "Zoë met Łukasz."]
    assert "Łukasz" in answers[0]  # readable, not escaped
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_predict_of_nothing_is_nothing(place, trained):
    assert place.run("predict", trained["qa"][0]).out == ""


@pytest.mark.parametrize(("command", "table"), [("methods", METHODS), ("tasks", TASKS)])
def test_catalogues_list_and_explain(place, command, table):
    assert len(place.run(command).out.splitlines()) == len(table)
    for name, entry in table.items():
        told = place.run(command, name).out
        for field, info in entry.model_fields.items():
            assert field in told
            assert info.description
    assert "'direct' or 'mlp'" in place.run("methods", "ptuning-v2").out
    place.refuse(command, "clasification", says=("there are: ",))


def test_backbones_and_recipes(place):
    assert "roberta" in place.run("backbones").out
    listed = place.run("recipes").out
    assert "conll04-ptuning-v2" in listed
    assert "roberta-large/ " in listed
    assert "roberta-large/rte" not in listed
    assert place.run("recipes", "conll04-ptuning-v2").out.startswith("#")


def test_recipes_in_folders(place):
    listed = place.run("recipes", "roberta-large").out
    assert listed == place.run("recipes", "roberta-large/").out
    lines = dict(line.split(maxsplit=1) for line in listed.splitlines())
    assert lines["roberta-large/rte-ptuning-v2"].strip() == "RoBERTa-large on RTE, P-Tuning v2."
    assert all(name.startswith("roberta-large/") for name in lines)
    assert "prompt_length = 128" in place.run("recipes", "roberta-large/rte-ptuning-v2").out
    refused = place.refuse("recipes", "roberta-large/rte", says=("Did you mean 'roberta-large/rte-ptuning-v2'?",))
    assert " bert-large/" not in refused.err
    place.refuse("recipes", "roberta", says=("Did you mean 'roberta-large'?", "conll04,"))
    place.refuse("recipes", "", says=("there are: ",))


def test_help_is_fast_and_teaches(place):
    assert place.run("--version").out.startswith("foreword ")
    for command in ("init", "train", "evaluate", "predict", "inspect", "methods", "tasks"):
        result = place.run(command, "--help")
        assert result.code == 0
        assert "Examples" in result.out
    code = "import sys; from foreword.cli.main import main; main(['train', '-h']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=place.environment)


def test_an_unexpected_error_asks_for_a_report(place, monkeypatch):
    monkeypatch.setattr("foreword.recipes.load_any_recipe", Mock(side_effect=IndexError("list index out of range")))
    result = place.run("train", "x.toml")
    assert result.code == 1
    assert "IndexError: list index out of range" in result.err
    assert "report" in result.err
    assert "Traceback" not in result.err
    assert "Traceback" in place.run("--traceback", "train", "x.toml").err
    monkeypatch.setenv(cli.TRACEBACK, "1")
    assert "Traceback" in place.run("train", "x.toml").err
