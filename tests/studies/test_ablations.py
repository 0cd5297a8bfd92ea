"""One setting varied: what is run, and what is made of it."""

from __future__ import annotations

import json
import statistics

import pytest

from foreword.errors import RecipeError
from foreword.studies.ablations.axes import AXES, Subject, axis_of
from foreword.studies.ablations.results import Ablation, Measured, Plan, collect
from foreword.studies.ablations.summary import rows, write_ablation
from foreword.studies.cells.running import run_study
from foreword.studies.cells.store import Store
from tiny import tiny_backbone_folder
from tiny_recipes import write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ablations")


@pytest.fixture(scope="module")
def subject(folder):
    return Subject(str(write_recipe(folder, epochs=1)))


def plan_of(subject, *axes, seeds=(11,), rates=(), holdout=0.15):
    return Plan(subject, axes, seeds, rates, holdout)


def recipes(plan):
    """Each point's recipe, as it is run."""
    return [[plan.entrant(axis, point).run({}, plan.seeds[0]).checked for point in axis.points] for axis in plan.axes]


def run(plan, folder):
    """How many runs it took, and what came of each."""
    done = []
    run_study(plan.study, folder, report=lambda cell, record: done.append(record))
    assert [record.error for record in done] == [None] * len(done)
    return len(done), {key: record.result for key, record in Store(folder).records().items()}


class TestAxes:
    def test_lengths_are_run_directly_and_by_the_mlp_each_at_a_rate_of_its_kind(self, subject):
        own = Subject(subject.recipe, ("training.learning_rate=5e-2",))
        axis = axis_of("prompt-length", ["8", "2"], own)
        assert [(p.series, p.at, p.place) for p in axis.points] == [
            ("direct", "2", 2),
            ("direct", "8", 8),
            ("mlp", "2", 2),
            ("mlp", "8", 8),
        ]
        (made,) = recipes(plan_of(own, axis))
        assert [(r.method.prompt_length, r.method.reparameterization) for r in made] == [
            (2, "direct"),
            (8, "direct"),
            (2, "mlp"),
            (8, "mlp"),
        ]
        assert [r.training.learning_rate for r in made] == [5e-2, 5e-2, 1e-4, 1e-4]

    def test_a_method_without_an_mlp_has_one_line(self, folder):
        subject = Subject(str(write_recipe(folder)), ("method.type=prompt-tuning",))
        axis = axis_of("prompt-length", [], subject)
        assert {point.series for point in axis.points} == {""}

    def test_depths_from_both_ends_have_as_many_parameters(self, subject):
        axis = axis_of("depth", [], subject)
        (made,) = recipes(plan_of(subject, axis))
        assert [r.method.layers for r in made] == ["bottom-1", "bottom-2", "all", "top-1", "top-2", "all"]

    def test_of_24_layers_six_depths_are_run(self, tmp_path):
        write_recipe(tmp_path)
        tiny_backbone_folder("bert", tmp_path / "deep", num_hidden_layers=24)
        subject = Subject(str(tmp_path / "recipe.toml"), (f"backbone.name={tmp_path / 'deep'}",))
        points = axis_of("depth", [], subject).points
        assert [point.place for point in points[:6]] == [4, 8, 12, 16, 20, 24]

    def test_any_setting(self, subject):
        axis = axis_of("method.dropout", ["0.0", "0.5"], subject)
        assert [p.place for p in axis.points] == [0.0, 0.5]
        assert [r.method.dropout for r in recipes(plan_of(subject, axis))[0]] == [0.0, 0.5]
        named = axis_of("training.schedule", ["linear", "cosine"], subject)
        assert [p.place for p in named.points] == [None, None]

    def test_heads_are_compared_on_the_same_backbone(self, subject):
        words = {"city": "london", "country": "germany"}
        own = Subject(subject.recipe, (), None, words)
        pooled, verbalizer = recipes(plan_of(own, axis_of("head", [], own)))[0]
        assert pooled.backbone == verbalizer.backbone
        assert pooled.backbone.language_model
        assert (pooled.task.head, verbalizer.task.head) == ("pooled", "verbalizer")
        assert (verbalizer.task.template, verbalizer.task.verbalizer) == ("{text} {mask}", words)

    def test_what_is_selected_on_is_part_of_the_training_data(self, subject):
        ((recipe, _),) = recipes(plan_of(subject, axis_of("gate", [], subject)))
        assert (recipe.data.holdout, recipe.data.dev) == (0.15, ())
        assert recipe.data.test == Subject(subject.recipe).checked.data.dev

    @pytest.mark.parametrize(
        ("name", "values", "changes", "says"),
        [
            ("lenght", [], (), "--vary lenght: there are: prompt-length"),
            ("dept", [], (), "did you mean 'depth'"),
            ("depth", ["4"], (), "4 layers, but the backbone has 3"),
            ("depth", ["two"], (), "expected whole numbers above 0"),
            ("prompt-length", ["0"], (), "expected whole numbers above 0"),
            ("method.dropout", [], (), "needs --values"),
            ("gate", [], ("method.type=prompt-tuning",), "'prompt-tuning' has no setting 'gate'"),
            ("head", [], (), "--words LABEL=WORD"),
            ("head", [], ("task.type=ner",), "needs a recipe of task 'classification'"),
        ],
    )
    def test_what_does_not_suit_is_told(self, subject, name, values, changes, says):
        with pytest.raises(RecipeError, match=says):
            axis_of(name, values, Subject(subject.recipe, changes))

    @pytest.mark.parametrize(
        ("name", "values", "says"),
        [
            ("method.droput", ["0.1", "0.2"], "did you mean 'dropout'"),
            ("init", ["nowhere"], "method.init"),
            ("reparameterization", ["mpl"], "method.reparameterization"),
        ],
    )
    def test_a_value_that_makes_no_recipe_is_told_before_anything_runs(self, subject, name, values, says):
        with pytest.raises(RecipeError, match=says):
            _ = plan_of(subject, axis_of(name, values, subject)).study

    def test_every_axis_of_the_command_is_one(self):
        assert set(AXES) == {"prompt-length", "depth", "reparameterization", "head", "gate", "init"}


class TestRuns:
    def test_depth_from_end_to_end(self, subject, folder, tmp_path):
        plan = plan_of(subject, axis_of("depth", ["1", "3"], subject), seeds=(11, 12))
        count, over = run(plan, folder / "depth")
        assert count == 6  # all three layers are the same from both ends
        ablation = collect(plan, plan.axes[0], over)
        assert (ablation.side, ablation.metric, ablation.missing) == ("test", "accuracy", 0)
        up, down = ablation.series.values()
        assert [one.trained for one in up] == [one.trained for one in down]
        assert up[0].trained < up[1].trained
        assert up[1].values == down[1].values
        assert run(plan, folder / "depth")[0] == 0
        failed = {key: None if key == next(iter(over)) else result for key, result in over.items()}
        assert collect(plan, plan.axes[0], failed).missing in (1, 2)  # of all three layers it is missing twice
        assert collect(plan, plan.axes[0], {}) is None
        write_ablation(tmp_path, ablation)
        assert (tmp_path / "depth.png").read_bytes().startswith(b"\x89PNG")
        said = json.loads((tmp_path / "depth.json").read_text())
        assert [point["values"] for point in said["points"]] == [list(one.values) for one in ablation.measured]

    def test_head_from_end_to_end(self, folder, tmp_path):
        write_recipe(tmp_path, epochs=1)
        tiny_backbone_folder("bert", tmp_path / "lm", language_model=True)
        words = {"city": "london", "country": "germany"}
        subject = Subject(str(tmp_path / "recipe.toml"), (f"backbone.name={tmp_path / 'lm'}",), None, words)
        plan = plan_of(subject, axis_of("head", ["pooled", "verbalizer", "learned-verbalizer"], subject))
        count, over = run(plan, tmp_path / "out")
        assert count == 3
        pooled, verbalizer, learned = collect(plan, plan.axes[0], over).measured
        assert verbalizer.trained < learned.trained  # its head has nothing to train
        assert verbalizer.trained < pooled.trained

    def test_each_configuration_may_choose_its_rate_where_it_selects(self, subject, tmp_path):
        plan = plan_of(subject, axis_of("gate", [], subject), rates=("1e-9", "3e-2"), seeds=(11, 12))
        count, over = run(plan, tmp_path)
        assert count == 6  # two rates with the first seed, one of them with the second
        for one, point in zip(collect(plan, plan.axes[0], over).measured, plan.axes[0].points, strict=True):
            trials = [over[cell.key].selected_by for cell in plan.entrant(plan.axes[0], point).trials()]
            assert one.chosen == ("1e-9" if trials[0] >= trials[1] else "3e-2")


def measured(point, *values):
    return Measured(point, values, 1000, None)


def test_the_table_has_means_spreads_and_holes(subject):
    axis = axis_of("depth", ["1", "3"], subject)
    low, all_up, high, all_down = axis.points
    found = [measured(low, 0.5, 0.6), measured(all_up, 0.7, 0.7), measured(all_down, 0.8)]
    ablation = Ablation(axis, "r", "f1", "test", (11, 12), found, missing=3)
    spread = 100 * statistics.stdev([0.5, 0.6])
    assert rows(ablation) == [
        ["layers with prompts", "from the input up", "trained", "from the output down", "trained"],
        ["1", f"55.0 ± {spread:.1f}", "1,000", "", ""],
        ["3", "70.0 ± 0.0", "1,000", "80.0", "1,000"],
    ]
    assert high not in [one.point for one in ablation.measured]
