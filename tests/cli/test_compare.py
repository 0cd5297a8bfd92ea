"""`foreword compare` as typed."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def recipes(place, tmp_path_factory):
    """Two whole recipes on the same data, and one that cannot be trained."""
    folder = tmp_path_factory.mktemp("recipes")
    text = place.recipe("classification", folder).read_text()
    found = []
    for name, change in (
        ("tickets-ptuning-v2", ("", "")),
        ("tickets-head-only", ("prompt_length = 4", 'type = "head-only"')),
    ):
        found.append(folder / f"{name}.toml")
        found[-1].write_text(text.replace(*change) if change[0] else text)
    found.append(folder / "bad.toml")
    found[-1].write_text(text.replace("prompt_length = 4", 'layers = "7-9"'))
    return found


def test_recipes_then_the_table_alone(place, recipes, tmp_path):
    output = tmp_path / "out"
    ran = place.run("compare", *recipes[:2], "--seeds", "11,12", "--output", output)
    assert ran.code == 0, ran.err
    assert "tickets.head-only.seed-12: accuracy" in ran.err
    header, row, *_ = ran.out.splitlines()
    assert header.split() == ["data", "metric", "P-Tuning", "v2", "Head", "only"]
    assert row.split()[:2] == ["tickets", "accuracy"]
    assert {path.name for path in output.iterdir()} == {"cells", "claims", "runs", "comparison.md", "comparison.html"}
    again = place.run("compare", *recipes[:2], "--seeds", "11,12", "--output", output, "--table")
    assert (again.code, again.err) == (0, "")
    assert again.out == ran.out


def test_side_by_side_where_that_can_be(place, recipes, tmp_path):
    lora = recipes[0].with_name("tickets-lora.toml")
    lora.write_text(recipes[0].read_text().replace("prompt_length = 4", 'type = "lora"'))
    arguments = (recipes[0], lora, "--seeds", "11,12", "--side-by-side", "2", "--output", tmp_path / "out")
    ran = place.run("compare", *arguments)
    assert ran.code == 0, ran.err
    assert "warning: one after another: method.type: 'lora' puts modules into the backbone" in ran.err
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "2 side by side" in page


def test_a_cell_that_fails_is_shown_and_told_of(place, recipes, tmp_path):
    ran = place.run("compare", recipes[0], recipes[2], "--seeds", "11", "--output", tmp_path / "out")
    assert ran.code == 2
    assert "tickets.bad.seed-11: FAILED: MethodError: " in ran.err
    assert "warning: failed: tickets, bad, seed 11: MethodError: " in ran.err
    assert ran.out.splitlines()[1].split()[-1] == "failed"


def test_wrong_arguments(place, recipes, tmp_path):
    empty = tmp_path / "empty.toml"
    empty.write_text("")
    place.refuse("compare", empty, says=(str(empty), "task.type: is missing"))
    place.refuse("compare", tmp_path / "none.toml", says=("none.toml", "no such file"))
    place.refuse("compare", "conll", says=("conll", "nor a packaged recipe of that name"))
    place.refuse("compare", recipes[0], "--seeds", "x", says=("--seeds x", "whole numbers"))
    place.refuse(
        "compare", recipes[0], "--only", "nothing", says=("no data 'nothing' in the study; there are: tickets",)
    )
    place.refuse(
        "compare", recipes[0], "--table", "--output", tmp_path / "o", says=("no cell of this study is finished",)
    )
    study = tmp_path / "study.toml"
    study.write_text('recipes = ["conll04"]\nmethods = ["x"]\n[method.y]\n')
    place.refuse("compare", study, says=("2 mistakes", "'x' has no [method.x]", "method.y: is not among the methods"))
    place.refuse("compare", study, recipes[0], says=("is a study; give it alone",))
    place.refuse("compare", study, "--holdout", "0.2", says=("--holdout is for recipes",))
