"""Searches from end to end, on a tiny backbone."""

from __future__ import annotations

import csv
import os
import signal

import pytest

from foreword.errors import DataError, MethodError, OutputError
from foreword.recipes import load_recipe, run_recipe
from foreword.studies.tuning.importance import importances
from foreword.studies.tuning.search import Plan, Search
from foreword.studies.tuning.space import Dimension, with_settings
from foreword.studies.tuning.split import searched
from foreword.studies.tuning.summary import write_summary
from foreword.studies.tuning.trials import Trial, best_of, ranked
from foreword.training.loop import Interrupted
from tiny_recipes import tiny_recipe, write_data
from tiny_runs import Recorder

SEARCH = (
    "[search]\ntraining.learning_rate = { low = 1e-4, high = 1e-1, log = true }\nmethod.prompt_length = [2, 4, 8]\n"
)
NAMES = ("learning_rate", "prompt_length")


class Watch:
    """Makes trackers and remembers the titles; may send Ctrl-C in the middle of a trial."""

    def __init__(self, stop_in: str | None = None) -> None:
        self.titles, self.recorders, self._stop_in = [], [], stop_in

    def __call__(self, title: str) -> Recorder:
        def stop(kind: str, step: int) -> None:
            if self._stop_in is not None and title.startswith(self._stop_in) and step == 2:
                os.kill(os.getpid(), signal.SIGINT)

        self.titles.append(title)
        self.recorders.append(Recorder(stop))
        return self.recorders[-1]


def tune(recipe, output, watch=None, **plan):
    watch = watch or Watch()
    search = Search(recipe, output, Plan(**{"names": NAMES, "trials": 6, **plan}))
    search.run(watch)
    return search.finish(watch)


def told(trials):
    """All but the time."""
    return [(one.number, one.settings, one.end, one.values) for one in trials]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def whole(folder):
    """A search that nobody disturbs."""
    return tune(tiny_recipe(folder, SEARCH), folder / "whole")


def test_the_first_trial_is_the_recipe_and_the_others_are_in_the_space(whole):
    first, *others = whole.trials
    assert first.settings == {}
    for one in others:
        assert one.settings.keys() == {"training.learning_rate", "method.prompt_length"}
        assert 1e-4 <= one.settings["training.learning_rate"] <= 1e-1
        assert one.settings["method.prompt_length"] in (2, 4, 8)
    assert len({str(one.settings) for one in others}) == 5
    assert whole.best.value == max(one.value for one in whole.trials if one.end == "finished")


def test_a_search_that_was_stopped_goes_on_to_the_same_end(folder, whole, tmp_path):
    recipe = tiny_recipe(folder, SEARCH)
    with pytest.raises(Interrupted):
        tune(recipe, tmp_path / "out", Watch("trial 3"))
    watch = Watch()
    tuned = tune(recipe, tmp_path / "out", watch)
    assert [title.partition(",")[0] for title in watch.titles[:3]] == ["trial 3", "trial 4", "trial 5"]
    assert told(tuned.trials) == told(whole.trials)
    assert tuned.manifest.test == whole.manifest.test


def test_nothing_that_is_done_is_done_again_and_more_trials_go_on(folder, whole):
    recipe, watch = tiny_recipe(folder, SEARCH), Watch()
    assert told(tune(recipe, folder / "whole", watch).trials) == told(whole.trials)
    assert watch.titles == []
    more = tune(recipe, folder / "whole", watch, trials=7)
    assert watch.titles[0] == "trial 6, of 7"
    assert told(more.trials)[:6] == told(whole.trials)


def test_no_trial_begins_when_time_is_up(folder, tmp_path):
    recipe, watch = tiny_recipe(folder, SEARCH), Watch()
    search = Search(recipe, tmp_path / "out", Plan(trials=50, minutes=1e-9, names=NAMES))
    search.run(watch)
    assert watch.titles == []
    Search(recipe, tmp_path / "out", Plan(trials=1, names=NAMES)).run(watch)
    assert len(search.finish(watch).trials) == 1


@pytest.mark.parametrize("change", [{"seed": 12}, {"pruner": "none"}, {"holdout": 0.3}, {"names": ("prompt_length",)}])
def test_another_search_is_refused(folder, whole, change):
    with pytest.raises(OutputError, match="holds another search"):
        tune(tiny_recipe(folder, SEARCH), folder / "whole", **change)


def test_a_folder_of_somebody_else_is_refused_and_left_alone(folder, tmp_path):
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(OutputError, match="not a folder of ours"):
        tune(tiny_recipe(folder, SEARCH), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


class TestDevData:
    """They are the test, and nothing is learned from them before the end."""

    @pytest.fixture
    def wrong(self, folder, whole, tmp_path):
        """The same search where every dev label is the wrong one."""
        write_data(folder / "wrong.jsonl", 16, seed=2, wrong=True)
        recipe = tiny_recipe(folder, SEARCH)
        data = recipe.data.model_copy(update={"dev": (str(folder / "wrong.jsonl"),)})
        return tune(recipe.__class__(**{**vars(recipe), "data": data}), tmp_path / "out")

    def test_wrong_labels_there_change_nothing_but_the_last_score(self, whole, wrong):
        assert told(wrong.trials) == told(whole.trials)
        assert wrong.best.number == whole.best.number
        assert wrong.manifest.metrics == whole.manifest.metrics
        accuracy = whole.manifest.test.values["accuracy"]
        assert accuracy != 0.5
        assert wrong.manifest.test.values["accuracy"] == pytest.approx(1 - accuracy)

    def test_what_is_selected_on_is_a_part_of_the_training_data(self, whole):
        data = whole.manifest.data
        assert data["dev"].files == data["train"].files
        assert (data["train"].examples, data["dev"].examples, data["test"].examples) == (34, 6, 16)
        assert whole.best.value == whole.manifest.metrics.values["accuracy"]

    def test_they_are_read_before_the_search_begins(self, folder, tmp_path):
        recipe = tiny_recipe(folder, SEARCH)
        (folder / "bad.jsonl").write_text('{"text": "Anna", "label": "planet"}\n')
        data = recipe.data.model_copy(update={"dev": (str(folder / "bad.jsonl"),)})
        with pytest.raises(DataError, match="'planet' does not occur"):
            Search(recipe.__class__(**{**vars(recipe), "data": data}), tmp_path / "out", Plan())
        assert not (tmp_path / "out").exists()

    def test_where_there_are_test_files_those_are_scored_instead(self, folder, tmp_path):
        recipe = tiny_recipe(folder, SEARCH)
        test = write_data(folder / "test.jsonl", 9, seed=3)
        data = recipe.data.model_copy(update={"test": (str(test),)})
        tuned = tune(recipe.__class__(**{**vars(recipe), "data": data}), tmp_path / "out", trials=1)
        assert tuned.manifest.data["test"].examples == 9


def test_what_cannot_start_from_the_given_prompt_is_not_searched(folder, whole, tmp_path):
    recipe = tiny_recipe(folder, f'start_from = "{whole.run}"\n')
    search = Search(recipe, tmp_path / "out", Plan(names=("gate", "prompt_length")))
    assert {one.path for one in search.space} == {"method.prompt_length"}
    assert search.notes[0].startswith("method.gate stays as it is: training.start_from: these prompts are of two kinds")


def hopeless(folder, name, values):
    text = f"[search]\n{name} = {values}\n"
    return tiny_recipe(folder, text, method="head-only", epochs=6)


def test_a_hopeless_trial_is_given_up(folder, tmp_path):
    recipe = hopeless(folder, "training.head_learning_rate", "[1e-9, 2e-2]")
    tuned = tune(recipe, tmp_path / "out", names=(), trials=10)
    pruned = [one for one in tuned.trials if one.end == "pruned"]
    assert pruned
    assert {one.settings["training.head_learning_rate"] for one in pruned} == {1e-9}
    assert all(len(one.values) < 6 for one in pruned)
    assert tuned.best.settings.get("training.head_learning_rate") != 1e-9
    unpruned = tune(recipe, tmp_path / "none", names=(), trials=8, pruner="none")
    assert {one.end for one in unpruned.trials} == {"finished"}


def test_halving_gives_up_too(folder, tmp_path):
    recipe = hopeless(folder, "training.head_learning_rate", "[1e-9, 2e-2]")
    ends = [one.end for one in tune(recipe, tmp_path / "out", names=(), trials=10, pruner="halving").trials]
    assert "pruned" in ends
    assert "finished" in ends


def test_a_run_whose_loss_is_no_number_is_noted_and_the_search_goes_on(folder, tmp_path):
    recipe = tiny_recipe(folder, "[search]\ntraining.learning_rate = [1e-2, 1e30]\n", method="fine-tuning")
    trials = tune(recipe, tmp_path / "out", names=("learning_rate",)).trials
    ends = {one.settings.get("training.learning_rate"): one.end for one in trials}
    assert ends[1e30] == "diverged"
    assert best_of(trials).settings.get("training.learning_rate") != 1e30


class TestSideBySide:
    @pytest.fixture(scope="class")
    def together(self, folder, tmp_path_factory):
        return tune(tiny_recipe(folder, SEARCH), tmp_path_factory.mktemp("together") / "out", side_by_side=4)

    def test_each_trial_is_its_single_run(self, folder, together, tmp_path):
        assert [one.number for one in together.trials] == list(range(6))
        assert len({str(one.settings) for one in together.trials}) == 6
        base = searched(tiny_recipe(folder, SEARCH), None)
        for one in together.trials:
            if one.end == "finished":
                run = run_recipe(with_settings(base, one.settings), tmp_path / str(one.number))
                values = [entry["accuracy"] for entry in run.outcome.progress.evaluations]
                assert one.values == pytest.approx(values)

    def test_a_search_that_was_stopped_goes_on_to_the_same_end(self, folder, together, tmp_path):
        recipe = tiny_recipe(folder, SEARCH)
        with pytest.raises(Interrupted):
            tune(recipe, tmp_path / "out", Watch("trial 5"), side_by_side=4)
        watch = Watch()
        tuned = tune(recipe, tmp_path / "out", watch, side_by_side=4)
        assert [title.partition(",")[0] for title in watch.titles[:2]] == ["trial 4", "trial 5"]
        assert told(tuned.trials) == told(together.trials)

    def test_trials_that_cannot_share_a_pass_go_one_after_another(self, folder, tmp_path):
        recipe = tiny_recipe(folder, "[search]\ntraining.backbone_dropout = [0.0, 0.2]\n")
        tuned = tune(recipe, tmp_path / "out", names=("backbone_dropout",), trials=4, side_by_side=4)
        assert len(tuned.trials) == 4
        assert {one.settings.get("training.backbone_dropout", 0.0) for one in tuned.trials} == {0.0, 0.2}

    def test_a_run_whose_loss_is_no_number_leaves_the_others(self, folder, tmp_path):
        recipe = tiny_recipe(folder, "[search]\ntraining.learning_rate = [1e-2, 1e30]\n")
        trials = tune(recipe, tmp_path / "out", names=("learning_rate",), side_by_side=6).trials
        ends = {one.settings.get("training.learning_rate"): one.end for one in trials}
        assert ends == {None: "finished", 1e-2: "finished", 1e30: "diverged"}

    def test_refused_where_the_backbone_is_trained(self, folder, tmp_path):
        with pytest.raises(MethodError, match=r"'fine-tuning' trains weights .* one trial after the other"):
            tune(tiny_recipe(folder, method="fine-tuning"), tmp_path / "out", side_by_side=2)
        assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def written(folder, whole):
    write_summary(folder / "whole", whole, {"training.learning_rate": 0.75, "method.prompt_length": 0.25})
    return folder / "whole"


class TestWhatIsWritten:
    def test_the_best_recipe_trains_to_the_value_it_was_chosen_for(self, written, whole, tmp_path):
        recipe = load_recipe(written / "best.toml")
        assert recipe.to_dict() == whole.recipe.to_dict()
        run = run_recipe(recipe, tmp_path / "run")
        assert run.outcome.scores.main_value == whole.best.value
        assert run.test.values == whole.manifest.test.values

    def test_the_table_has_every_trial(self, written, whole):
        rows = list(csv.DictReader((written / "trials.csv").open(encoding="utf-8")))
        assert [int(row["trial"]) for row in rows] == [one.number for one in whole.trials]
        for row, one in zip(rows, whole.trials, strict=True):
            assert float(row["value"]) == one.value
            assert row["method.prompt_length"] == str(one.settings.get("method.prompt_length", ""))

    def test_the_page_says_what_was_chosen_and_how_often_dev_was_asked(self, written, whole):
        page = (written / "summary.md").read_text("utf-8")
        assert f"**Trial {whole.best.number}** is the best: accuracy {whole.best.value:.4f} on 15%" in page
        assert f"{whole.manifest.test.values['accuracy']:.4f}. No trial saw these data; they were scored " in page
        assert "| training.learning_rate | 75% |" in page
        assert (written / "trials.png").read_bytes().startswith(b"\x89PNG")


def test_zero_and_negative_values_are_values():
    def trial(number, end, *values):
        return Trial(number, {}, end, "correlation", values, 1, 1.0)

    trials = [trial(0, "finished", -0.2), trial(1, "pruned", 0.5), trial(2, "diverged"), trial(3, "finished", 0.0)]
    trials.append(trial(4, "finished", -0.1, 0.0))
    assert best_of(trials).number == 3
    assert [one.number for one in ranked(trials)] == [3, 4, 0, 1, 2]
    assert best_of(trials[1:3]) is None


def test_importance_finds_what_the_value_depends_on():
    space = (Dimension("method.a", (1, 2, 3)), Dimension("method.b", ("x", "y")), Dimension("method.c", (1, 2)))
    trials = [Trial(0, {}, "finished", "f1", (0.9,), 1, 1.0)]
    for number in range(1, 25):
        settings = {"method.a": number % 3 + 1, "method.b": "xy"[number % 2]}
        extra = {"method.c": 1} if number % 2 else {}  # not always there
        value = settings["method.a"] / 10 + (settings["method.b"] == "x") / 100
        trials.append(Trial(number, settings | extra, "finished", "f1", (value,), 1, 1.0))
    found = importances(trials, space, seed=1)
    assert list(found) == ["method.a", "method.b"]
    assert sum(found.values()) == pytest.approx(1)
    assert found["method.a"] > 0.9
    assert importances(trials, space, seed=1) == found
    assert importances(trials[:5], space, seed=1) == {}
