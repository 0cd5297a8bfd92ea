"""`foreword predict --registry`: every line names its task."""

from __future__ import annotations

import json
import random

import pytest

from foreword.registry import Registry

NAMES = {"classification": "tickets", "ner": "diary", "qa": "notices"}
ANSWERS = {"tickets": "label", "diary": "entities", "notices": "text"}


@pytest.fixture(scope="module")
def registry(place, trained, tmp_path_factory):
    found = Registry(tmp_path_factory.mktemp("published") / "registry", create=True)
    for task, name in (
        ("classification", "tickets"),
        ("ner", "diary"),
        ("qa", "notices"),
        ("classification", "tickets"),
    ):
        found.add(trained[task][0], name)
    return found.root


LINES = [
    {"task": "tickets", "text": "Where is my parcel?", "id": "first"},
    {"task": "diary", "tokens": ["Zoë", "met", "Łukasz"]},
    {"task": "tickets:1", "text": "Hello " * 40},
    {"task": "notices", "question": "Who is it?", "context": "It is Anna. " * 30},
]


def jsonl(items) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def test_answers_are_those_of_each_artifact_in_order(place, trained, registry):
    lines = [LINES[n % 4] for n in range(40)]
    random.Random(0).shuffle(lines)
    result = place.run("predict", "--registry", registry, stdin=jsonl(lines))
    assert result.code == 0, result
    answers = [json.loads(line) for line in result.out.splitlines()]
    versions = {"tickets": 2, "diary": 1, "tickets:1": 1, "notices": 1}
    assert [(one["task"], one["version"]) for one in answers] == [
        (line["task"].removesuffix(":1"), versions[line["task"]]) for line in lines
    ]
    for task, name in NAMES.items():
        key = ANSWERS[name]
        own = [line for line in lines if line["task"].startswith(name)]
        alone = place.run("predict", trained[task][0], stdin=jsonl(own)).out.splitlines()
        ours = [one for one in answers if one["task"] == name]
        assert [one.get(key) for one in ours] == [json.loads(line).get(key) for line in alone]


def test_from_file_to_file_with_batches_of_one(place, registry, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(jsonl(LINES))
    result = place.run(
        "predict", "--registry", registry, "--input", source, "--output", target, "--batch-size", 1, "--backbone",
        place.backbone,
    )  # fmt: skip
    assert (result.code, result.out) == (0, "")
    answers = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    assert [one["id"] for one in answers] == ["first", "1", "2", "3"]


def test_of_nothing_is_nothing(place, registry):
    assert place.run("predict", "--registry", registry).out == ""


def test_refused(place, trained, registry, tmp_path):
    place.refuse("predict", says=("give an ARTIFACT, or --registry",))
    place.refuse("predict", trained["ner"][0], "--registry", registry, says=("not both",))
    place.refuse("predict", "--registry", tmp_path, says=(str(tmp_path),))
    Registry(tmp_path / "empty", create=True)
    place.refuse("predict", "--registry", tmp_path / "empty", says=("holds no task yet",))
    for line, says in (
        ({"text": "x"}, ("<stdin>:1: field 'task': missing",)),
        ({"task": "other", "text": "x"}, ("'other': no such task or version",)),
        ({"task": "tickets:9", "text": "x"}, ("'tickets:9': no such task or version",)),
        ({"task": "tickets"}, ("<stdin>:1: field 'text': missing",)),
    ):
        place.refuse("predict", "--registry", registry, stdin=jsonl([line]), says=says)
