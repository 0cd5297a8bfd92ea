"""Gaps in queries: filled with every entity, and the most probable one chosen."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from foreword.data.records import Record
from foreword.errors import DataError
from foreword.tasks import ReCoRD
from tiny import tiny_bert_tokenizer

TEXT = "Anna Smith met Peter.\n@highlight\nPeter visited London"


def entity(text, start=0):
    at = TEXT.index(text, start)
    return {"start": at, "end": at + len(text) - 1}


FIELDS = {
    "idx": 3,
    "passage": {
        "text": TEXT,
        "entities": [entity("Anna Smith"), entity("Peter"), entity("Peter", 20), entity("London")],
    },
    "qas": [
        {"query": "Then @placeholder left Peter.", "answers": [{"text": "Anna Smith"}, {"text": "Anna"}], "idx": 30},
        {"query": "@placeholder is far, @placeholder is good.", "answers": [{"text": "London"}]},
    ],
}


def read(fields=FIELDS, labelled=True):
    return ReCoRD().read([Record(fields, "data.jsonl", 3)], labelled=labelled)[0]


def changed(path, value):
    fields = copy.deepcopy(FIELDS)
    place = fields
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return fields


def test_candidates_are_the_distinct_entities():
    example = read()
    assert example.passage == "Anna Smith met Peter.\n- Peter visited London"
    assert [question.id for question in example.questions] == ["30", "3-1"]
    for question, right in zip(example.questions, [(True, False, False), (False, False, True)], strict=True):
        assert question.candidates == ("Anna Smith", "Peter", "London")
        assert question.right == right
    assert example.questions[0].answers == ("Anna Smith", "Anna")


def test_a_row_is_the_passage_and_the_query_with_its_gap_filled():
    rows = ReCoRD().encode(read(), tiny_bert_tokenizer(), 128).rows
    statements = [
        "Then Anna Smith left Peter.",
        "Then Peter left Peter.",
        "Then London left Peter.",
        "Anna Smith is far, Anna Smith is good.",
        "Peter is far, Peter is good.",
        "London is far, London is good.",
    ]
    expected = [tiny_bert_tokenizer()(read().passage, statement)["input_ids"] for statement in statements]
    assert [row.input_ids for row in rows] == expected
    assert [row.targets["right"] for row in rows] == [1, 0, 0, 0, 0, 1]


def test_answers_may_be_missing_only_in_prediction():
    fields = copy.deepcopy(FIELDS)
    for question in fields["qas"]:
        del question["answers"]
    example = read(fields, labelled=False)
    assert [question.right for question in example.questions] == [None, None]
    rows = ReCoRD().encode(example, tiny_bert_tokenizer(), 128).rows
    assert [row.targets for row in rows] == [{}] * 6
    prediction = ReCoRD().decode(example, rows, [torch.tensor([0.0, i]) for i in (1, 3, 2, 0, 0, 0)])
    told = ReCoRD().to_json(example, prediction)["questions"]
    assert [question["answer"] for question in told] == ["Peter", "Anna Smith"]
    with pytest.raises(DataError, match=r"data\.jsonl:3: field 'qas\[0\]\.answers': missing"):
        read(fields)


def test_the_most_probable_entity_is_chosen_not_the_highest_score():
    scores = [[6.0, 5.0], [-1.0, 2.0], [0.0, 0.0]]  # of 'wrong' and 'right'
    logits = [torch.tensor(pair) for pair in scores * 2]
    example, task = read(), ReCoRD()
    prediction = task.decode(example, (), logits)
    answers = task.to_json(example, prediction)["questions"]
    assert [answer["answer"] for answer in answers] == ["Peter", "Peter"]
    assert answers[0] == {
        "id": "30",
        "query": "Then @placeholder left Peter.",
        "answer": "Peter",
        "probability": pytest.approx(1 / (1 + 2.718281828**-3), abs=1e-5),
    }
    assert task.answer_key(prediction) == "2 2"


def test_scores_are_the_best_over_the_answers_of_a_query():
    def choosing(*numbers):
        logits = [torch.tensor([0.0, float(n == chosen)]) for chosen in numbers for n in range(3)]
        return ReCoRD().decode(read(), (), logits)

    scores = ReCoRD().score([read(), read()], [choosing(0, 1), choosing(1, 2)])
    assert scores.main == "f1"
    assert scores.counts["questions"] == 4
    assert scores.values["exact_match"] == scores.values["f1"] == 2 / 4
    near = changed(("qas", 1, "answers"), [{"text": "the London, yes"}])
    assert ReCoRD().score([read(near)], [choosing(0, 2)]).values["f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert read(near).questions[1].right == (False, False, False)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("passage", "entities"), [], "'passage.entities': is empty"),
        (("passage", "entities", 1, "end"), 999, "'passage.entities[1]': characters 15 to 999 are no entity"),
        (("passage", "entities", 1, "start"), -1, "'passage.entities[1]': characters -1 to"),
        (
            ("passage", "entities", 1, "start"),
            "4",
            "'passage.entities[1].start': expected a whole number, found a text",
        ),
        (("passage", "entities", 1), {"start": 4, "end": 4}, "'passage.entities[1]': characters 4 to 4"),
        (("qas",), [], "'qas': is empty"),
        (("qas", 1, "query"), "who?", "'qas[1].query': expected '@placeholder' in it"),
        (("qas", 1, "answers"), [], "'qas[1].answers': is empty"),
        (("qas", 1, "answers"), ["London"], "'qas[1].answers[0]': expected an object, found a text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(path, value, says):
    with pytest.raises(DataError, match=re.escape(f"data.jsonl:3: field {says}")):
        read(changed(path, value))
