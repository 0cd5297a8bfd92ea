"""The model card of every artifact: front matter a hub can parse, and numbers from the manifest."""

from __future__ import annotations

import pytest
import yaml

from foreword.artifacts.card import model_card
from foreword.artifacts.format import load_artifact
from tiny_artifacts import METHODS, PAIRS, tiny_artifact


def front_matter(card: str) -> dict:
    start, matter, rest = card.split("---\n", 2)
    assert start == ""
    assert rest.startswith("\n# ")
    return yaml.safe_load(matter)


@pytest.mark.parametrize(("task", "method"), PAIRS)
def test_every_kind_of_artifact_has_one(task, method):
    folder = tiny_artifact(task, method)
    manifest, card = load_artifact(folder).manifest, (folder / "README.md").read_text("utf-8")
    assert front_matter(card) == {
        "library_name": "foreword",
        "base_model": manifest.backbone.name,
        "tags": ["foreword", METHODS[method].name, task],
    }
    assert all(f"| {name} | {value:.4f} |" in card for name, value in manifest.metrics.values.items())
    assert f"{manifest.parameters.trained:,}" in card
    assert "Measured on 4 examples" in card
    assert ("fine-tuned copy" in card) == (method == "fine-tuning")
    assert ("A soft prompt " in card) == (manifest.parameters.prompt > 0)
    assert (" a head for the " in card or "A head for the " in card) == (
        manifest.parameters.head > 0 and method != "fine-tuning"
    )
    assert ("odules for its layers " in card) == (method in ("lora", "ia3", "adapter", "combined"))
    assert ("Some of its weights, tuned, " in card) == (method in ("bitfit", "ln-tuning"))
    assert not {"{{", "}}", "{%", "None"} & set(card.split())


@pytest.mark.parametrize("name", ["C: x", "# x", "yes", "12", "a'b\"c", "- x", "[x", "models/B\u00e4r", "x: &a *b"])
def test_any_name_of_a_backbone_stays_a_text(name):
    manifest = load_artifact(tiny_artifact()).manifest
    named = manifest.model_copy(update={"backbone": manifest.backbone.model_copy(update={"name": name})})
    assert front_matter(model_card(named))["base_model"] == name


def test_labels_do_not_break_the_table():
    manifest = load_artifact(tiny_artifact()).manifest
    task = manifest.task.model_copy(update={"settings": {"labels": ["a|b", "two\nlines"]}})
    (row,) = [row for row in model_card(manifest.model_copy(update={"task": task})).splitlines() if "labels" in row]
    assert row == "| task | classification, labels: a\\|b, two lines |"
