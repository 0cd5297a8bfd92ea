"""A study as people write it: what cells it means, and every mistake in it told."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreword.errors import RecipeError
from foreword.recipes import load_recipe
from foreword.studies.cells.study_file import is_study, load_study, selection_apart, study_of_recipes


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("trials = 2", "trails = 2", "trails: unknown key; did you mean 'trials'?"),
        ("trials = 2", "trials = 3", "method.prompt.search: has 2 settings, fewer than the 3 trials of every method"),
        (
            "[recipe.people.method.full.set]",
            '[recipe.people.method.full]\nsearch = [{ "training.seed" = 1 }]\n[recipe.people.method.full.set]',
            "recipe.people.method.full.search: has 1 settings, fewer than the 2 trials",
        ),
        ('"full", "prompt"]', '"full", "prompts"]', "methods: 'prompts' has no [method.prompts]"),
        ('"full", "prompt"]', '"full"]', "method.prompt: is not among the methods"),
        ("recipe.people.method.full", "recipe.people.method.ful", "method.ful: is not among the methods"),
        ("[recipe.people.set]", "[recipe.peopl.set]", "recipe.peopl: is not among the recipes (places, people)"),
        ("seeds = [11, 12]", "seeds = [11, 11]", "seeds: '11' comes twice"),
        ('"training.epochs" = 2', '"epochs" = 2', "'epochs' is not section.key"),
        ('"training.batch_size" = 3', '"training.batch" = 3', "people, full: training.batch: unknown key"),
        ("trial_set =", "trialset =", "method.prompt.trialset: unknown key; did you mean 'trial_set'?"),
        ('["places.toml", "people.toml"]', "[]", "recipes: "),
        ('"places.toml", "people.toml"]', '"places.toml", "people.toml", "nobody.toml"]', "nobody.toml: no such file"),
        ('"people.toml"]', '"./people.toml", "people.toml"]', "recipes: two are called 'people'"),
    ],
)
def test_mistakes_in_a_study(study_file, old, new, says):
    text = study_file.read_text()
    assert old in text
    study_file.write_text(text.replace(old, new))
    with pytest.raises(RecipeError) as caught:
        load_study(study_file)
    assert says in str(caught.value)


def test_a_method_may_search_among_others_on_one_recipe(study_file):
    search = (
        'search = [{ "training.learning_rate" = 0.5 }, { "training.learning_rate" = 0.25 }, { "training.seed" = 9 }]'
    )
    there = "[recipe.people.method.full"
    study_file.write_text(study_file.read_text().replace(f"{there}.set]", f"{there}]\n{search}\n{there}.set]"))
    rates = {
        (entrant.data, entrant.method): [cell.checked.training.learning_rate for cell in entrant.trials()]
        for entrant in load_study(study_file).entrants
    }
    assert rates == {
        ("places", "full"): [1e-3, 1e-2],
        ("people", "full"): [0.5, 0.25],
        ("places", "prompt"): [1e-2, 1e-1],
        ("people", "prompt"): [1e-2, 1e-1],
    }


def test_all_mistakes_are_told_at_once(study_file):
    text = study_file.read_text().replace('"training.batch_size" = 3', '"training.batch" = 3')
    study_file.write_text(text.replace('"method.prompt_length" = 2', '"method.length" = 2'))
    with pytest.raises(RecipeError) as caught:
        load_study(study_file)
    assert len(caught.value.mistakes) == 4  # batch of both methods on people, length on both recipes
    assert any("method.length: unknown key" in mistake for mistake in caught.value.mistakes)


def test_which_of_several_tables_wins(study_file):
    study_file.write_text(
        """\
recipes = ["places.toml"]
methods = ["full"]
trials = 2
[set]
"training.epochs" = 1
"training.seed" = 5
"training.batch_size" = 1
[method.full]
set = { "method.type" = "fine-tuning", "training.epochs" = 2, "training.weight_decay" = 0.2 }
search = [ { "training.learning_rate" = 0.1 }, { "training.warmup_ratio" = 0.2 } ]
trial_set = { "training.schedule" = "constant" }
[recipe.places.set]
"training.epochs" = 3
"training.warmup_ratio" = 0.3
[recipe.places.method.full]
set = { "training.epochs" = 4 }
trial_set = { "training.batch_size" = 8 }
"""
    )
    (entrant,) = load_study(study_file).entrants
    first, second = (cell.checked.training for cell in entrant.trials())
    assert (first.epochs, first.seed, first.batch_size, first.weight_decay) == (4, 11, 8, 0.2)
    assert (first.learning_rate, first.warmup_ratio, first.schedule) == (0.1, 0.3, "constant")
    assert (second.learning_rate, second.warmup_ratio) == (None, 0.2)
    run = entrant.first.checked.data
    assert (run.holdout, run.dev) == (0.15, ())
    assert [Path(file).name for file in run.test] == ["places-dev.jsonl"]


class TestSelectionApart:
    def write(self, tmp_path: Path, data: str) -> str:
        path = tmp_path / "r.toml"
        path.write_text(f'[task]\ntype = "ner"\n[data]\ntrain = "a.conll"\n{data}')
        return str(path)

    def test_dev_files_become_test_files(self, tmp_path):
        recipe = self.write(tmp_path, 'dev = ["$HOME/b.conll"]\ndev_sample = 7\n')
        changes = selection_apart(recipe, (), 0.25)
        assert 'data.test=["$HOME/b.conll"]' in changes, "as it is written, so that the command works elsewhere"
        data = load_recipe(recipe, changes).data
        assert (data.holdout, data.dev, data.test_sample) == (0.25, (), 7)
        assert data.source("test").files == load_recipe(recipe).data.dev

    def test_a_holdout_becomes_the_test_data(self, tmp_path):
        recipe = self.write(tmp_path, "holdout = 0.1\n")
        data = load_recipe(recipe, selection_apart(recipe, (), 0.25)).data
        assert (data.test_holdout, data.holdout, data.dev, data.test) == (0.1, 0.25, (), ())

    def test_the_split_goes_along(self, tmp_path):
        recipe = self.write(tmp_path, 'dev = "hub:some/data"\n')
        assert load_recipe(recipe, selection_apart(recipe, (), 0.2)).data.source("test").options.split == "validation"
        recipe = self.write(tmp_path, 'dev = "hub:some/data"\ndev_split = "dev"\n')
        assert load_recipe(recipe, selection_apart(recipe, (), 0.2)).data.source("test").options.split == "dev"

    @pytest.mark.parametrize("data", ['dev = "b.conll"\ntest = "c.conll"\n', "holdout = 0.1\ntest_holdout = 0.2\n"])
    def test_test_data_of_a_recipe_stay(self, tmp_path, data):
        assert selection_apart(self.write(tmp_path, data), (), 0.2) == ()

    def test_nothing_is_put_aside_if_nothing_is_to_be(self, tmp_path):
        assert selection_apart(self.write(tmp_path, 'dev = "b.conll"\n'), (), 0) == ()

    def test_changes_that_come_before_count(self, tmp_path):
        recipe = self.write(tmp_path, 'dev = "b.conll"\n')
        assert "data.test=x.conll" in selection_apart(recipe, ("data.dev=x.conll",), 0.2)


class TestRecipes:
    def test_are_grouped_by_their_data(self, monkeypatch):
        monkeypatch.setenv("FOREWORD_DATA", "/data")
        names = ("conll04-ptuning-v2", "rte-head-only", "conll04-fine-tuning", "rte-ptuning-v2")
        study = study_of_recipes(names, seeds=(3,))
        assert [(one.data, one.method, one.recipe) for one in study.entrants] == [
            ("conll04", "ptuning-v2", "conll04-ptuning-v2"),
            ("conll04", "fine-tuning", "conll04-fine-tuning"),
            ("rte", "head-only", "rte-head-only"),
            ("rte", "ptuning-v2", "rte-ptuning-v2"),
        ]
        cells = study.cells({})
        assert [cell.checked.training.seed for cell in cells] == [3] * 4
        assert all(cell.checked.data.holdout == 0.15 for cell in cells)

    def test_two_of_one_method_are_columns_of_their_own(self, study_file):
        folder = study_file.parent
        for name in ("short", "long"):
            (folder / f"{name}.toml").write_text((folder / "places.toml").read_text())
        study = study_of_recipes([str(folder / "short.toml"), str(folder / "long.toml")])
        assert [(one.data, one.method) for one in study.entrants] == [("short", "short"), ("short", "long")]


def test_what_is_a_study(study_file):
    assert is_study(str(study_file))
    assert not is_study(str(study_file.with_name("places.toml")))
    assert not is_study("conll04")


def test_a_part_of_a_study(study_file):
    study = load_study(study_file)
    part = study.only(data=["people"], methods=["prompt"], seeds=[4])
    assert [(one.data, one.method) for one in part.entrants] == [("people", "prompt")]
    assert part.seeds == (4,)
    with pytest.raises(RecipeError) as caught:
        study.only(data=["person"], methods=["lora"])
    assert caught.value.mistakes == [
        "no data 'person' in the study; there are: places, people",
        "no method 'lora' in the study; there are: full, prompt",
    ]
