"""Recipes of several tasks: what they say, what is wrong with them, and the folder they fill."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.errors import ArtifactError, CheckpointError, DataError, MethodError, OutputError, RecipeError
from foreword.recipes import (
    MultiTaskRecipe,
    load_any_recipe,
    load_recipe,
    run_multi_task_recipe,
    run_recipe,
)
from foreword.training.loop import Interrupted
from foreword.training.mixing import Mixing
from packaged_names import SEVERAL
from tiny import tiny_backbone
from tiny_artifacts import records
from tiny_runs import Recorder

SINGLE = '[task]\ntype = "{task}"\n[data]\ntrain = "{task}.jsonl"\ndev = "{task}.jsonl"\n'
MULTI = """
[tasks.labels]
recipe = "deep/classification.toml"

[tasks.spans]
task.type = "ner"
data.train = "deep/ner.jsonl"
data.dev = "deep/ner.jsonl"

[backbone]
name = "{backbone}"
{method}
[training]
epochs = 2
batch_size = 2
[mixing]
temperature = 2
"""
METHOD = '[method]\nprompt_length = 4\nreparameterization = "mlp"\nmlp_hidden = 8\n'


@pytest.fixture
def write(tmp_path):
    """A folder with data, recipes of one task, and a recipe of both."""
    (tmp_path / "deep").mkdir()
    for task in ("classification", "ner"):
        lines = "".join(json.dumps(item) + "\n" for item in records(task))
        (tmp_path / "deep" / f"{task}.jsonl").write_text(lines)
        (tmp_path / "deep" / f"{task}.toml").write_text(SINGLE.format(task=task))

    def written(text: str = MULTI, method: str = METHOD) -> Path:
        path = tmp_path / "both.toml"
        path.write_text(text.replace("{backbone}", tiny_backbone().name).replace("{method}", method))
        return path

    return written


def mistakes(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_any_recipe(path, overrides)
    return caught.value.mistakes


class TestLoading:
    def test_entries_are_the_recipes_they_name_or_their_own(self, write, tmp_path):
        recipe = load_any_recipe(write())
        assert isinstance(recipe, MultiTaskRecipe)
        assert (recipe.name, list(recipe.tasks)) == ("both", ["labels", "spans"])
        assert recipe.mixing == Mixing(temperature=2)
        single = load_recipe(tmp_path / "deep" / "classification.toml")
        assert (recipe.tasks["labels"].task, recipe.tasks["labels"].data) == (single.task, single.data)
        assert recipe.tasks["spans"].task == fw.NER()
        assert recipe.tasks["spans"].data.train == (str(tmp_path / "deep" / "ner.jsonl"),)

    def test_an_entry_covers_what_its_recipe_says(self, write, tmp_path):
        text = MULTI.replace('.toml"\n', '.toml"\ntask.columns.text = "words"\ndata.dev = "own.jsonl"\n', 1)
        entry = load_any_recipe(write(text)).tasks["labels"]
        assert entry.task.columns.text == "words"
        assert entry.data.dev == (str(tmp_path / "own.jsonl"),)  # beside the recipe that says so
        assert entry.data.train == (str(tmp_path / "deep" / "classification.jsonl"),)

    def test_packaged_recipes_can_be_named(self, write, monkeypatch):
        monkeypatch.setenv("FOREWORD_DATA", "/data")
        text = '[tasks.one]\nrecipe = "squad"\ntask.unanswerable = true\n[tasks.two]\nrecipe = "squad-ptuning-v2"\n'
        recipe, squad = load_any_recipe(write(text)), load_recipe("squad")
        assert recipe.tasks["one"].task == squad.task.model_copy(update={"unanswerable": True})
        assert recipe.tasks["two"].data == squad.data
        assert (recipe.method, recipe.training) == (fw.PTuningV2(), fw.TrainingSettings())  # of no task's recipe

    def test_what_is_covered_need_not_be_there(self, write, monkeypatch):
        monkeypatch.delenv("FOREWORD_DATA", raising=False)
        text = '[tasks.a]\nrecipe = "conll04"\ndata.train = "a.txt"\ndata.dev = "b.txt"\n'
        assert load_any_recipe(write(text)).tasks["a"].task.invalid_tags == "repair"

    @pytest.mark.parametrize(
        ("override", "read"),
        [
            ("tasks.labels.data.train_limit=3", lambda r: r.tasks["labels"].data.train_limit == 3),
            ("tasks.labels.task.pooling=first", lambda r: r.tasks["labels"].task.pooling == "first"),
            ("tasks.spans.task.scheme=BIOES", lambda r: r.tasks["spans"].task.scheme == "BIOES"),
            ("tasks.labels.recipe=deep/ner.toml", lambda r: isinstance(r.tasks["labels"].task, fw.NER)),
            ("mixing.temperature=inf", lambda r: math.isinf(r.mixing.temperature)),
            ("mixing.cap=100", lambda r: r.mixing.cap == 100),
            ("training.epochs=7", lambda r: r.training.epochs == 7),
        ],
    )
    def test_overrides(self, write, override, read):
        assert read(load_any_recipe(write(), [override]))

    def test_a_packaged_one_can_be_a_base(self, write, monkeypatch):
        monkeypatch.setenv("FOREWORD_DATA", "/data")
        recipe = load_any_recipe(write('base = "qa-multi-task"\n[tasks.squad.data]\ntrain_limit = 5\n'))
        assert recipe.tasks["squad"].data.train_limit == 5
        assert recipe.tasks["squad2"] == load_any_recipe("qa-multi-task").tasks["squad2"]

    @pytest.mark.parametrize("overrides", [(), ("mixing.temperature=inf", "mixing.cap=9"), ("training.start_from=x",)])
    def test_the_resolved_form_means_the_same_from_any_folder(self, write, tmp_path, monkeypatch, overrides):
        path = write()
        monkeypatch.chdir(tmp_path)
        resolved = load_any_recipe("both.toml", overrides).to_dict()
        (tmp_path / "resolved.toml").write_text(tomli_w.dumps(resolved), "utf-8")
        monkeypatch.chdir("/")
        again = load_any_recipe(tmp_path / "resolved.toml")
        assert again == load_any_recipe(path, overrides)
        assert again.to_dict() == resolved


class TestMistakes:
    def test_all_are_told_at_once(self, write):
        told = mistakes(
            write(
                'nme = 1\n[tasks."a/b"]\nrecipe = "deep/ner.toml"\n[tasks.c]\nrecip = "x"\ntask.type = "nerr"\n'
                '[tasks.d]\nrecipe = "deep/ner.toml"\ntask.shceme = "BIO"\ndata.trian = 3\n'
                "[tasks]\ne = 3\n[mixing]\ntemperature = 0.5\ncaps = 2\n[training]\nepochs = 0\n".replace(
                    "[tasks]\ne = 3\n", ""
                )
            )
        )
        assert [mistake.split(": ")[0] for mistake in told] == [
            "nme",
            "tasks.a/b",
            "tasks.c.recip",
            "tasks.c.task.type",
            "tasks.c.data.train",
            "tasks.c.data.dev",
            "tasks.d.task.shceme",
            "tasks.d.data.trian",
            "training.epochs",
            "mixing.temperature",
            "mixing.caps",
        ]
        assert told[2] == "tasks.c.recip: unknown key; did you mean 'recipe'?"
        assert "did you mean 'scheme'" in told[6]

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[tasks]\n", "tasks: is missing; give each task a table, as in [tasks.NAME]"),
            ("tasks = 3\n", "tasks: expected a table, as in [tasks]"),
            ("[tasks]\na = 3\n", "tasks.a: expected a table, as in [tasks.a]"),
            ("[tasks.a]\nrecipe = 3\n", "tasks.a.recipe: expected the name of a recipe, or a file"),
            ('[tasks.a]\nrecipe = "none.toml"\n', "tasks.a.recipe: no such file"),
            ('[tasks.a]\nrecipe = "nonesuch"\n', "tasks.a.recipe: no such file, nor a packaged recipe of that name"),
            ('[tasks.a]\nrecipe = "qa-multi-task"\n', "tasks.a.recipe: 'qa-multi-task' has several tasks itself"),
            ('[tasks.a]\nrecipe = "deep/ner.toml"\n[task]\ntype = "ner"\n', "task: unknown key; did you mean 'tasks'?"),
            ('[tasks.a]\nrecipe = "deep/ner.toml"\ndata = 3\n', "tasks.a.data: expected a table"),
            (
                '[tasks.a]\nrecipe = "deep/ner.toml"\ndata.train = "$NO_SUCH_PLACE/x"\n',
                "tasks.a.data.train: the environment variable NO_SUCH_PLACE is not set",
            ),
        ],
    )
    def test_one_by_one(self, write, text, says):
        assert mistakes(write(text))[0].startswith(says)

    def test_of_a_head_that_reads_the_vocabulary(self, write):
        head = 'task = {type = "classification", head = "verbalizer", template = "{text} {mask}", verbalizer = '
        text = MULTI.replace('task.type = "ner"', head + '{a = "a", b = "b"}}')
        assert mistakes(write(text))[-1].startswith("backbone.language_model: ")

    def test_mixing_needs_several_tasks(self, write, tmp_path):
        path = tmp_path / "deep" / "ner.toml"
        path.write_text(path.read_text() + "[mixing]\ncap = 3\n")
        assert mistakes(path)[0].startswith("mixing: unknown key")

    def test_where_one_task_is_expected(self, write):
        with pytest.raises(RecipeError, match="a recipe of several tasks, where one of a single task is expected"):
            load_recipe(write())


@pytest.mark.parametrize("name", SEVERAL)
class TestPackaged:
    @pytest.fixture(autouse=True)
    def _data(self, monkeypatch):
        monkeypatch.setenv("FOREWORD_DATA", "/data")

    def test_loads_and_comes_back_from_its_resolved_form(self, name, tmp_path):
        recipe = load_any_recipe(name)
        assert isinstance(recipe, MultiTaskRecipe)
        assert recipe.name == name
        assert len(recipe.tasks) > 1
        for entry in recipe.tasks.values():
            assert all(file.startswith("/data/") for file in (*entry.data.train, *entry.data.dev))
        (tmp_path / "recipe.toml").write_text(tomli_w.dumps(recipe.to_dict()), "utf-8")
        assert load_any_recipe(tmp_path / "recipe.toml") == recipe

    def test_every_question_may_be_unanswerable(self, name):
        tasks = [entry.task for entry in load_any_recipe(name).tasks.values()]
        assert all(task.unanswerable for task in tasks if isinstance(task, fw.QA))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stop_at(step: int) -> Recorder:
    return Recorder(lambda kind, at: signal.raise_signal(signal.SIGINT) if (kind, at) == ("step", step) else None)


@pytest.fixture
def recipe(write) -> MultiTaskRecipe:
    """Eight steps, four of each task, and an evaluation after every four."""
    found = load_any_recipe(write())
    assert isinstance(found, MultiTaskRecipe)
    return found


class TestRunning:
    def test_an_artifact_for_each_task(self, recipe, tmp_path):
        runs = run_multi_task_recipe(recipe, tmp_path / "out")
        assert names(tmp_path / "out") == {"run.json", "recipe.toml", "log.jsonl", "artifacts"}
        assert names(tmp_path / "out" / "artifacts") == {"labels", "spans"} == set(runs)
        assert load_any_recipe(tmp_path / "out" / "recipe.toml") == recipe
        served = [load_file(tmp_path / "out" / "artifacts" / name / "prompt.safetensors") for name in runs]
        for name in served[0].keys() | served[1].keys():
            if not name.startswith("head/"):
                assert torch.equal(served[0][name], served[1][name])
        for name, run in runs.items():
            manifest = load_artifact(tmp_path / "out" / "artifacts" / name).manifest
            assert manifest.metrics.values == run.outcome.scores.values
            assert manifest.recipe["name"] == f"both/{name}"
            assert manifest.recipe["task"]["type"] == run.prepared.task.name
            assert str(tmp_path) not in json.dumps(manifest.recipe)
        log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
        assert [entry["event"] for entry in log] == ["start", "evaluation", "evaluation", "end"]
        assert set(log[1]["tasks"]) == {"labels", "spans"}
        assert log[1]["main"] == "mean"

    def test_resuming_comes_to_the_same_bits(self, recipe, tmp_path):
        run_multi_task_recipe(recipe, tmp_path / "whole")
        with pytest.raises(Interrupted):
            run_multi_task_recipe(recipe, tmp_path / "out", tracker=stop_at(6))
        assert "checkpoint.safetensors" in names(tmp_path / "out")
        run_multi_task_recipe(recipe, tmp_path / "out", resume=True)
        assert names(tmp_path / "out") == {"run.json", "recipe.toml", "log.jsonl", "artifacts"}
        for name in recipe.tasks:
            whole, resumed = (
                load_file(tmp_path / out / "artifacts" / name / "prompt.safetensors") for out in ("whole", "out")
            )
            assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())

    @pytest.mark.parametrize("override", ["mixing.temperature=1", "tasks.spans.data.train_limit=2", "training.seed=3"])
    def test_resuming_another_recipe_is_refused(self, recipe, write, tmp_path, override):
        with pytest.raises(Interrupted):
            run_multi_task_recipe(recipe, tmp_path / "out", tracker=stop_at(2))
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        with pytest.raises(CheckpointError, match="belongs to another recipe or other data"):
            run_multi_task_recipe(load_any_recipe(write(), [override]), tmp_path / "out", resume=True)
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before

    def test_resuming_with_the_tasks_in_another_order_is_refused(self, recipe, write, tmp_path):
        """Their heads would be drawn in another order, and so would their turns."""
        with pytest.raises(Interrupted):
            run_multi_task_recipe(recipe, tmp_path / "out", tracker=stop_at(2))
        labels = MULTI.partition("[tasks.spans]")[0]
        other = load_any_recipe(write(MULTI.replace(labels, "") + labels))
        assert other.to_dict() == recipe.to_dict()
        with pytest.raises(CheckpointError, match="belongs to another recipe or other data"):
            run_multi_task_recipe(other, tmp_path / "out", resume=True)

    def test_a_finished_run_is_kept(self, recipe, tmp_path):
        run_multi_task_recipe(recipe, tmp_path / "out")
        with pytest.raises(OutputError, match="holds a finished run already"):
            run_multi_task_recipe(recipe, tmp_path / "out")
        with pytest.raises(ArtifactError, match=r"run of several tasks\. Name one of its artifacts: .*labels, .*spans"):
            load_artifact(tmp_path / "out")

    @pytest.mark.parametrize(
        ("override", "error"),
        [
            ("tasks.labels.data.train=none.jsonl", DataError),
            ("tasks.spans.task.columns.tokens=words", DataError),
            ("method.layers=7-9", MethodError),
            ("training.start_from=none", ArtifactError),
        ],
    )
    def test_nothing_is_written_when_something_does_not_fit(self, write, tmp_path, override, error):
        with pytest.raises(error):
            run_multi_task_recipe(load_any_recipe(write(), [override]), tmp_path / "new" / "out")
        assert not (tmp_path / "new").exists()

    def test_nor_when_the_method_does_not_suit_several(self, write, tmp_path):
        recipe = load_any_recipe(write(method='[method]\ntype = "fine-tuning"\n'))
        with pytest.raises(
            MethodError, match="trains weights of the backbone itself, and several tasks share a frozen"
        ):
            run_multi_task_recipe(recipe, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestOneTaskFromThere:
    """`training.start_from` an artifact of several tasks, with its head."""

    @pytest.fixture
    def start(self, recipe, tmp_path) -> Path:
        run_multi_task_recipe(recipe, tmp_path / "multi")
        return tmp_path / "multi" / "artifacts" / "spans"

    def tuned(self, folder, start, *overrides, task="ner"):
        text = SINGLE.format(task=task) + f'[backbone]\nname = "{tiny_backbone().name}"\n' + METHOD
        text += f'[training]\nepochs = 1\nbatch_size = 2\nstart_from = "{start}"\nstart_head = true\n'
        (folder / "deep" / "alone.toml").write_text(text)
        return run_recipe(load_recipe(folder / "deep" / "alone.toml", overrides), folder / "alone")

    def test_begins_at_its_very_score(self, tmp_path, start):
        """Rates too small to move a float: what is scored after the epoch is the beginning."""
        rates = ("training.learning_rate=1e-30", "training.head_learning_rate=1e-30")
        run = self.tuned(tmp_path, start, *rates)
        assert run.outcome.scores.to_json() == load_artifact(start).manifest.metrics.model_dump()
        ours, theirs = (load_file(place / "prompt.safetensors") for place in (tmp_path / "alone" / "artifact", start))
        assert all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
        unfolded = [load_file(place / "unfolded.safetensors") for place in (tmp_path / "alone" / "artifact", start)]
        assert all(torch.equal(tensor, unfolded[0][name]) for name, tensor in unfolded[1].items())

    def test_goes_on_learning_from_there(self, tmp_path, start):
        run = self.tuned(tmp_path, start)
        theirs = load_file(start / "prompt.safetensors")
        ours = load_file(tmp_path / "alone" / "artifact" / "prompt.safetensors")
        assert all(not torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
        assert run.settings.start_head

    @pytest.mark.parametrize(
        ("artifact", "task", "override", "says"),
        [
            ("spans", "ner", "task.labels=['PER', 'LOC']", r"the labels \['LOC', 'PER'\], the task has the labels"),
            ("labels", "classification", "task.hidden_layer=true", "its head is not the one this task has"),
            ("labels", "ner", "training.seed=1", "its head is one for 'classification', and the task is 'ner'"),
        ],
    )
    def test_another_head_is_refused_before_anything_is_written(self, tmp_path, start, artifact, task, override, says):
        with pytest.raises(ArtifactError, match=says):
            self.tuned(tmp_path, start.with_name(artifact), override, task=task)
        assert not (tmp_path / "alone").exists()

    def test_a_head_without_an_artifact(self, write, tmp_path):
        (told,) = mistakes(tmp_path / "deep" / "ner.toml", "training.start_head=true")
        assert told.startswith("training.start_head: there is no artifact to take a head from; set training.start_from")
