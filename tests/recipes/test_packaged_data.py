"""Packaged recipes read the real files: as many examples as published, every one of them understood."""

from __future__ import annotations

from collections import Counter

import pytest

from foreword.recipes import load_recipe
from real_data import needs_real_data, real_data

pytestmark = needs_real_data


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    monkeypatch.setenv("FOREWORD_DATA", str(real_data()))


def examples(name):
    """The task with its labels, and the labelled examples of both sides."""
    recipe = load_recipe(name)
    train = recipe.task.read(recipe.data.source("train").records(), labelled=True)
    task = recipe.task.with_labels_from(train)
    records = list(recipe.data.source("dev").records())
    dev = task.read(records, labelled=True)
    task.check_labels(records, dev)
    return task, train, dev


@pytest.mark.parametrize(
    ("name", "train", "dev"),
    [
        (
            "cb",
            {"contradiction": 119, "entailment": 115, "neutral": 16},
            {"contradiction": 28, "entailment": 23, "neutral": 5},
        ),
        ("qqp", {"0": 14_212 - 5_331, "1": 5_331}, {"0": 2_000 - 731, "1": 731}),
        ("agnews", {"1": 1_168, "2": 1_188, "3": 1_385, "4": 1_260}, {"1": 241, "2": 224, "3": 280, "4": 255}),
    ],
)
def test_labels_are_as_published(name, train, dev):
    task, *sides = examples(name)
    assert task.labels == tuple(sorted(train))
    assert [Counter(example.label for example in side) for side in sides] == [train, dev]
    assert all(example.pair for side in sides for example in side)


def test_mrpc_puts_a_part_aside():
    task, train, dev = examples("mrpc")
    assert (len(train), len(dev)) == (4_076 - 408, 408)
    assert Counter(example.label for example in (*train, *dev)) == {"1": 2_753, "0": 4_076 - 2_753}
    assert {example.texts for example in train}.isdisjoint(example.texts for example in dev)
    assert train[0].text == (  # quotes are ordinary characters
        'Amrozi accused his brother, whom he called "the witness", of deliberately distorting his evidence.'
    )
    assert (task.positive, task.main) == ("1", "accuracy_and_f1")


def test_copa():
    _, train, dev = examples("copa")
    assert (len(train), len(dev)) == (400, 100)
    assert {example.question for example in (*train, *dev)} == {"because", "so"}
    assert {len(example.choices) for example in (*train, *dev)} == {2}
    assert {example.right for example in train} == {0, 1}
