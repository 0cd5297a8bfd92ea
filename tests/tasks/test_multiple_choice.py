from __future__ import annotations

import math
import random

import pytest
import torch
from pydantic import ValidationError

from foreword.data.batching import IGNORED, collate
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.tasks import MultipleChoice
from tiny import tiny_bert_tokenizer, tiny_roberta_tokenizer

TOKENIZERS = pytest.mark.parametrize("tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer])
COPA = MultipleChoice(
    columns={"text": "premise", "question": "question", "choices": ["choice1", "choice2"]},
    template="{text} {question}",
    questions={"cause": "because", "effect": "so"},
)
ANNA = {
    "premise": "Anna wrote a letter.",
    "choice1": "It was a movie.",
    "choice2": "Nobody visited London.",
    "question": "cause",
    "label": 1,
    "idx": 0,
}


def records(*fields):
    return [Record(each, "data.jsonl", number) for number, each in enumerate(fields, 1)]


def read(task, fields, labelled=True):
    (example,) = task.read(records(fields), labelled=labelled)
    return example


def choices(count, label=0, **fields):
    return {"text": "It", "choices": ["a movie", "a letter", "Anna", "London", "it"][:count], "label": label, **fields}


class TestReading:
    def test_copa_as_it_is_published(self):
        example = read(COPA, ANNA)
        assert example.choices == ("It was a movie.", "Nobody visited London.")
        assert (example.question, example.right) == ("because", 1)

    def test_a_list_of_any_length(self):
        assert [len(read(MultipleChoice(), choices(n)).choices) for n in (2, 3, 5)] == [2, 3, 5]

    @pytest.mark.parametrize(
        ("labels", "value", "right"),
        [
            (None, 2, 2),
            (None, "2", 2),
            (("A", "B", "C"), "C", 2),
            (("1", "2", "3"), 1, 0),
            (("false", "true", "x"), True, 1),
        ],
    )
    def test_what_the_right_choice_is_called(self, labels, value, right):
        assert read(MultipleChoice(labels=labels), choices(3, value)).right == right

    @pytest.mark.parametrize("value", [3, -1, None, "A", 1.0, True])
    def test_what_is_none(self, value):
        says = r"data\.jsonl:1: field 'label': expected the right one of 3 choices \(0, 1, 2\), found .*task\.labels"
        with pytest.raises(DataError, match=says):
            read(MultipleChoice(), choices(3, value))

    def test_more_choices_than_names(self):
        with pytest.raises(DataError, match=r"data\.jsonl:1: 3 choices, and task\.labels names 2"):
            read(MultipleChoice(labels=("A", "B")), choices(3, "A"))

    def test_a_label_may_be_missing_only_in_prediction(self):
        unlabelled = {key: value for key, value in ANNA.items() if key != "label"}
        assert read(COPA, unlabelled, labelled=False).right is None
        with pytest.raises(DataError, match="field 'label': missing"):
            read(COPA, unlabelled)

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("a movie", "expected a list of two or more choices"),
            (["a movie"], "expected a list of two or more choices"),
            (None, "expected a list of two or more choices"),
            (["a movie", 3], "expected choices that are texts, found 3"),
            (["a movie", " "], "expected choices that are texts, found ' '"),
        ],
    )
    def test_what_are_no_choices(self, value, says):
        with pytest.raises(DataError, match=rf"data\.jsonl:1: field 'choices': {says}"):
            read(MultipleChoice(), choices(2, choices=value))

    def test_a_choice_that_is_not_there(self):
        with pytest.raises(DataError, match=r"field 'choice2': is empty"):
            read(COPA, {**ANNA, "choice2": ""})

    def test_a_question_without_words(self):
        with pytest.raises(DataError, match=r"field 'question': 'why' is not in task\.questions \(cause, effect\)"):
            read(COPA, {**ANNA, "question": "why"})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"template": "because"}, "expected {text}"),
        ({"template": "{text} {choice}"}, "'{choice}' is not one of {text}, {question}"),
        ({"template": "{text} {text}"}, "'{text}' comes twice"),
        ({"choice_template": "{question}"}, "expected {choice}"),
        ({"template": "{text} {question}"}, r"{question} needs its field, columns\.question"),
        ({"columns": {"question": "q"}}, r"expected {question} here or in task\.template"),
        ({"questions": {"cause": "because"}}, r"needs the field of the question, columns\.question"),
        ({"columns": {"choices": ["a"]}}, "two or more different fields"),
        ({"columns": {"choices": ["a", "a"]}}, "two or more different fields"),
        ({"columns": {"choices": []}}, "two or more different fields"),
    ],
)
def test_settings_that_do_not_go_together(settings, says):
    with pytest.raises(ValidationError, match=says):
        MultipleChoice(**settings)


class TestEncode:
    @TOKENIZERS
    @pytest.mark.parametrize(("question", "word"), [("cause", "because"), ("effect", "so")])
    def test_copa_is_read_as_p_tuning_v2_reads_it(self, tokenizer, question, word):
        encoding = COPA.encode(read(COPA, {**ANNA, "question": question}), tokenizer(), 64)
        expected = [
            tokenizer()(f"Anna wrote a letter. {word}", choice) for choice in (ANNA["choice1"], ANNA["choice2"])
        ]
        assert [row.input_ids for row in encoding.rows] == [each["input_ids"] for each in expected]
        assert [row.token_type_ids for row in encoding.rows] == [each.get("token_type_ids") for each in expected]
        assert [row.targets for row in encoding.rows] == [{"choice": 1}, {"choice": IGNORED}]
        assert encoding.note is None

    def test_a_question_may_stand_with_the_choice(self):
        task = MultipleChoice(columns={"question": "q"}, choice_template="{question} {choice}")
        rows = task.encode(read(task, choices(2, q="What is it {text}?")), tiny_bert_tokenizer(), 64).rows
        assert rows[1].input_ids == tiny_bert_tokenizer()("It", "What is it {text}? a letter")["input_ids"]

    def test_without_a_label_there_is_no_target(self):
        rows = COPA.encode(read(COPA, {**ANNA, "label": 0}, labelled=False), tiny_bert_tokenizer(), 64).rows
        assert rows[0].targets == {"choice": 0}
        unlabelled = read(MultipleChoice(), {"text": "It", "choices": ["a", "b"]}, labelled=False)
        assert [r.targets for r in MultipleChoice().encode(unlabelled, tiny_bert_tokenizer(), 64).rows] == [{}, {}]

    def test_what_is_cut_is_noted_once(self):
        example = read(MultipleChoice(), choices(3, text="Anna visited London. " * 20))
        encoding = MultipleChoice().encode(example, tiny_bert_tokenizer(), 16)
        assert [len(row) for row in encoding.rows] == [16, 16, 16]
        assert encoding.note == "truncated"


class TestLoss:
    def test_is_over_the_rows_of_each_example(self):
        """Examples with 2, 5 and 3 choices, against a loop over them."""
        scores = [[0.5, -1.0], [2.0, 0.0, 1.0, -3.0, 0.25], [1.0, 1.0, 4.0]]
        right = [1, 0, 2]
        by_hand = [math.log(sum(map(math.exp, row))) - row[choice] for row, choice in zip(scores, right, strict=True)]
        logits = torch.tensor([[score] for row in scores for score in row], requires_grad=True)
        targets = torch.tensor([1, -100, 0, -100, -100, -100, -100, 2, -100, -100])
        loss = MultipleChoice().loss(logits, {"choice": targets})
        assert loss.item() == pytest.approx(sum(by_hand) / 3, rel=1e-6)
        loss.backward()
        expected = [
            (math.exp(score) / sum(map(math.exp, row)) - (place == choice)) / 3
            for row, choice in zip(scores, right, strict=True)
            for place, score in enumerate(row)
        ]
        assert logits.grad.flatten().tolist() == pytest.approx(expected, abs=1e-6)

    def test_examples_of_other_batches_make_no_difference(self):
        task, tokenizer, generator = MultipleChoice(), tiny_bert_tokenizer(), random.Random(5)
        encoded = []
        for _ in range(6):
            count = generator.randint(2, 5)
            encoded.append(task.encode(read(task, choices(count, generator.randrange(count))), tokenizer, 64).rows)
        rows = [row for each in encoded for row in each]
        scores = torch.randn(len(rows), 1, generator=torch.Generator().manual_seed(1))
        whole = task.loss(scores, collate(rows, range(len(rows)), 0).targets)
        alone, start = [], 0
        for each in encoded:
            batch = collate(rows, range(start, start + len(each)), 0)
            alone.append(task.loss(scores[start : start + len(each)], batch.targets))
            start += len(each)
        torch.testing.assert_close(whole, torch.stack(alone).mean())


def test_answers():
    example = read(COPA, ANNA)
    found = COPA.decode(example, (), [torch.tensor([0.0]), torch.tensor([math.log(4)])])
    assert (found.choice, found.probabilities) == (1, pytest.approx((0.2, 0.8)))
    assert COPA.to_json(example, found) == {
        "id": "0",
        "label": "1",
        "text": "Nobody visited London.",
        "probability": 0.8,
        "probabilities": [0.2, 0.8],
    }
    assert COPA.answer_key(found) == "1"
    named = MultipleChoice(labels=("A", "B", "C"))
    assert named.to_json(read(named, choices(2, "A")), found)["label"] == "B"
    scores = COPA.score([example, read(COPA, {**ANNA, "label": 0})], [found, found])
    assert (scores.main, scores.main_value) == ("accuracy", 0.5)
