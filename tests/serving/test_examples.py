"""Every kind of task is described by an input that it can read."""

from __future__ import annotations

import pytest

import foreword as fw
import tiny_artifacts
from foreword.serving.examples import example_of, fields_of, reads
from foreword.tasks import TASKS

SETTLED = {
    **tiny_artifacts.TASKS,
    "generation": fw.Generation(),
    "text-to-text": fw.TextToText(labels=("a", "b")),
    "pairs": fw.Classification(labels=("a", "b"), columns={"text": "premise", "pair": "hypothesis"}),
    "dotted": fw.SpanClassification(
        labels=("a", "b"),
        columns={"start": ["target.at1", "target.at2"], "span": ["target.one", "target.two"], "label": "label"},
    ),
    "choices in columns": fw.MultipleChoice(columns={"choices": ["choice1", "choice2"]}),
}


def test_every_kind_is_here():
    assert {task.name for task in SETTLED.values()} == set(TASKS)


@pytest.mark.parametrize("name", SETTLED)
def test_the_example_is_read_and_nothing_of_it_is_idle(name: str):
    task = SETTLED[name]
    example, fields = example_of(task), fields_of(task)
    assert example
    assert reads(task, example)
    for field in example:
        assert fields[field]
        rest = {other: value for other, value in example.items() if other != field}
        assert not rest or not reads(task, rest)
    assert not any(must for field, must in fields.items() if field not in example)


def test_fields_have_the_users_names():
    assert fields_of(SETTLED["pairs"]) == {"premise": True, "hypothesis": True}
    assert fields_of(fw.NER(labels=("A",))) == {"tokens": False, "text": True}
