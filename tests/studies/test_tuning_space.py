"""What a search may change."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from foreword.errors import RecipeError
from foreword.methods import METHODS, SSF, Combined, HeadOnly, LoRA, MixtureOfPrompts, PromptTuning, PTuningV2
from foreword.recipes import load_recipe
from foreword.recipes.run import check_method
from foreword.recipes.schema import parse_recipe
from foreword.recipes.templates import write_out
from foreword.studies.tuning.defaults import default_space
from foreword.studies.tuning.space import draw, fitting, narrowed, widest, with_settings
from packaged_names import SINGLE
from tiny import tiny_backbone
from tiny_recipes import tiny_recipe

NESTED = {
    "combined": Combined(parts=(PTuningV2(), LoRA())),
    "mixture": MixtureOfPrompts(of=PromptTuning(init="uniform")),
}


class Picks:
    """Draws the first or last of everything, or what is said, and remembers the names."""

    def __init__(self, at: int = 0, **said: str) -> None:
        self.at, self.said, self.names = at, said, []

    def suggest_float(self, name, low, high, *, log=False):
        self.names.append(name)
        return (low, high)[self.at]

    suggest_int = suggest_float

    def suggest_categorical(self, name, choices):
        self.names.append(name)
        return self.said.get(name.rpartition(".")[2], choices[self.at])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny_recipe(tmp_path_factory.mktemp("space"))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_can_take_all_of_its_default_space(recipe, name):
    method = NESTED.get(name) or METHODS[name]()
    backbone = tiny_backbone("bert")
    recipe = replace(recipe, method=method)
    space = default_space(method, 12)
    deep = tuple(one for one in space if one.path != "method.layers")  # the tiny backbone has three layers
    kept, notes = fitting(deep, recipe, lambda changed: check_method(changed, backbone))
    assert notes == []
    assert kept == deep
    for at in (0, -1):
        assert with_settings(recipe, draw(kept, recipe, Picks(at))).method.name == name


def test_rates_of_direct_prompts_and_of_the_mlp_are_two_dimensions(recipe):
    space = default_space(PTuningV2(), 12)
    for kind, low, high in (("direct", 3e-3, 1e-1), ("mlp", 1e-4, 1e-2)):
        picks = [Picks(at, reparameterization=f'"{kind}"') for at in (0, -1)]
        assert [draw(space, recipe, pick)["training.learning_rate"] for pick in picks] == [low, high]
        name = f'training.learning_rate (method.reparameterization = "{kind}")'
        assert [one for one in picks[0].names if "training.learning_rate" in one] == [name]
    whole = widest(space)["training.learning_rate"]
    assert (whole.low, whole.high, whole.log) == (1e-4, 1e-1, True)


def test_what_depends_on_a_setting_that_is_not_searched_goes_by_the_recipe(recipe):
    for kind, low in (("direct", 3e-3), ("mlp", 1e-4)):
        own = replace(recipe, method=PTuningV2(reparameterization=kind))
        space = narrowed(default_space(own.method, 12), own, ["learning_rate"])
        assert draw(space, own, Picks())["training.learning_rate"] == low
        kept, _ = fitting(space, own, lambda _: None)
        assert [one.values.low for one in kept] == [low]


def test_layers_are_halves_and_thirds_of_what_the_backbone_has():
    by_path = [{one.path: one.values for one in default_space(PTuningV2(), depth)} for depth in (24, 3, 1)]
    assert [found.get("method.layers") for found in by_path] == [("all", "top-12", "top-8"), ("all", "top-1"), None]


def test_names_choose_and_wrong_ones_are_told(recipe):
    space = default_space(recipe.method, 12)
    chosen = narrowed(space, recipe, ["prompt_length", "method.gate"])
    assert {one.path for one in chosen} == {"method.prompt_length", "method.gate"}
    with pytest.raises(RecipeError, match="did you mean 'prompt_length'"):
        narrowed(space, recipe, ["promt_length"])
    with pytest.raises(RecipeError, match="nothing to search"):
        narrowed((), replace(recipe, method=HeadOnly()), ())


class TestOfTheRecipe:
    def test_replaces_and_adds(self, tmp_path):
        text = (
            '[search]\n"training.learning_rate" = { low = 1e-3, high = 2e-3 }\nmethod.prompt_length = [2, 3]\n'
            "training.batch_size = { low = 4, high = 16, log = true }\n"
        )
        recipe = tiny_recipe(tmp_path, text)
        drawn = draw(narrowed(default_space(recipe.method, 12), recipe, ()), recipe, Picks(-1))
        assert drawn["training.learning_rate"] == 2e-3
        assert drawn["method.prompt_length"] == 3
        assert drawn["training.batch_size"] == 16
        assert type(drawn["training.batch_size"]) is int
        assert "search" not in recipe.to_dict()

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("training.learning_rate = { low = 2, high = 1 }", "low .2. must be below high .1."),
            ("training.learning_rate = { low = 0, high = 1, log = true }", "starts above 0"),
            ("training.learning_rate = { low = 0, top = 1 }", "learning_rate.high"),
            ("training.learning_rate = 3e-2", "expected a list of two"),
            ("training.learning_rate = [1e-3]", "expected a list of two"),
            ("training.learning_rate = [1e-3, 1e-3]", "expected a list of two"),
            ("backbone.name = ['a', 'b']", "search.backbone.name: expected a setting of task, method, training"),
            ("method.type = ['lora', 'ia3']", "search.method.type: expected a setting of"),
        ],
    )
    def test_mistakes(self, tmp_path, line, says):
        with pytest.raises(RecipeError, match=says):
            tiny_recipe(tmp_path, f"[search]\n{line}\n")

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("training.learning_rte = [1e-3, 1e-2]", "search.training.learning_rte: .*did you mean 'learning_rate'"),
            ("method.layers = ['all', 'top-9']", "search.method.layers: .*'top-9' does not fit"),
            ("method.dropout = { low = 0.0, high = 1.5 }", "search.method.dropout: "),
        ],
    )
    def test_values_that_do_not_fit(self, tmp_path, line, says):
        recipe = tiny_recipe(tmp_path, f"[search]\n{line}\n")
        backbone = tiny_backbone("bert")
        with pytest.raises(RecipeError, match=says):
            fitting(narrowed((), recipe, ()), recipe, lambda changed: check_method(changed, backbone))

    def test_a_default_that_the_recipe_has_no_room_for_is_left_out_and_told_of(self, recipe):
        own = replace(recipe, method=PTuningV2(init="text", init_text="once"))
        kept, notes = fitting(default_space(own.method, 3), own, lambda _: None)
        assert "method.init" not in {one.path for one in kept}
        assert len(notes) == 1
        assert notes[0].startswith("method.init stays as it is: ")


@pytest.mark.parametrize("name", SINGLE)
def test_a_recipe_that_is_written_out_is_read_back(name, monkeypatch):
    monkeypatch.setenv("FOREWORD_DATA", "/data")
    recipe = load_recipe(name)
    if recipe.training.start_from:  # what is written out holds wherever it is read
        placed = {"start_from": str(Path(recipe.training.start_from).absolute())}
        recipe = replace(recipe, training=recipe.training.model_copy(update=placed))
    text = write_out(recipe, remarks=["One", ""], chosen=["training.schedule"])
    assert text.startswith("# One\n#\n")
    assert f'\nschedule = "{recipe.training.schedule}"\n' in text
    assert "\n#tensorboard = false\n" in text
    assert parse_recipe(tomllib.loads(text), name="x") == recipe


def test_tables_inside_settings_are_written_out_too(recipe):
    words = {"city": "good", "two words": "bad"}
    task = recipe.task.model_copy(update={"head": "verbalizer", "template": "{text} {mask}", "verbalizer": words})
    task = task.model_copy(update={"dropout": 0.1})
    lm = recipe.backbone.model_copy(update={"language_model": True})
    for method in NESTED.values():
        own = replace(recipe, task=task, backbone=lm, method=method)
        read = parse_recipe(tomllib.loads(write_out(own)), name="x")
        assert (read.task, read.method) == (own.task, own.method)


def test_of_a_combination_with_rates_of_its_own_those_are_searched():
    parts = (PTuningV2(), SSF())
    rates = {one.path: one.values for one in default_space(Combined(parts=parts, learning_rates=(3e-2, 1e-2)), 12)}
    assert "training.learning_rate" not in rates
    assert len(rates["method.learning_rates"]) == 9
    assert rates["method.learning_rates"][0] == [0.01, 0.00333]
    assert [0.03, 0.01] in rates["method.learning_rates"]
    assert "training.learning_rate" in {one.path for one in default_space(Combined(parts=parts), 12)}
