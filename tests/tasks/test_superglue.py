"""The packaged recipes of SuperGLUE read the whole files, and what is in those is what their README counts."""

from __future__ import annotations

from collections import Counter

import pytest

from foreword.inference.encoding import encode_examples
from foreword.recipes import load_recipe
from real_data import needs_real_data, real_data
from tiny import tiny_backbone

pytestmark = needs_real_data


@pytest.fixture(autouse=True)
def _data(monkeypatch):
    monkeypatch.setenv("FOREWORD_DATA", str(real_data()))


def examples_of(name, side):
    """The task with its labels, and all examples of one side, checked as training and evaluation check them."""
    recipe = load_recipe(name)
    task = recipe.task.with_labels_from(recipe.task.read(recipe.data.source("train").records(), labelled=True))
    records = list(recipe.data.source(side).records())
    examples = task.read(records, labelled=True)
    task.check_labels(records, examples)
    return task, examples


@pytest.mark.parametrize(
    ("name", "side", "labels"),
    [
        ("wic", "train", {"false": 2714, "true": 2714}),
        ("wic", "dev", {"false": 261, "true": 249}),
        ("wsc", "train", {"false": 295, "true": 259}),
        ("wsc", "dev", {"false": 66, "true": 38}),
    ],
)
def test_marked_stretches(name, side, labels):
    task, examples = examples_of(name, side)
    assert task.labels == ("false", "true")
    assert Counter(example.label for example in examples) == labels
    encoded = encode_examples(task, examples, tiny_backbone())  # every stretch has a token
    assert len(encoded.rows) == len(examples)


def test_the_words_of_wsc_are_where_the_files_say():
    for side in ("train", "dev"):
        records = list(load_recipe("wsc").data.source(side).records())
        for record, example in zip(records, examples_of("wsc", side)[1], strict=True):
            for span, number in zip(example.spans, "12", strict=True):
                expected = record.fields["target"][f"span{number}_text"]
                assert example.text[slice(*span)].lower().split() == expected.lower().split()


@pytest.mark.parametrize(
    ("side", "counts", "right"), [("train", (456, 5131, 27_243), 12_025), ("dev", (66, 717, 3695), 1602)]
)
def test_candidate_answers(side, counts, right):
    _, examples = examples_of("multirc", side)
    questions = [question for example in examples for question in example.questions]
    labels = [label for question in questions for label in question.right]
    assert (len(examples), len(questions), len(labels)) == counts
    assert sum(labels) == right
    assert len({question.id for question in questions}) == len(questions)


@pytest.mark.parametrize("side", ["train", "dev"])
def test_gaps(side):
    _, examples = examples_of("record", side)
    assert len(examples) == 32
    for example in examples:
        (question,) = example.questions
        assert set(question.answers) <= set(question.candidates)
        assert sum(question.right) == len(set(question.answers))
