"""Candidate answers: one row each, scored per question."""

from __future__ import annotations

import copy
import math
import re

import pytest
import torch

from foreword.data.records import Record
from foreword.errors import DataError
from foreword.tasks import MultiRC
from tiny import tiny_bert_tokenizer, tiny_gpt2_tokenizer, tiny_roberta_tokenizer

TOKENIZERS = pytest.mark.parametrize("tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_gpt2_tokenizer])
FIELDS = {
    "idx": 7,
    "passage": {
        "text": "Anna visited London.",
        "questions": [
            {
                "idx": 70,
                "question": "Who was it?",
                "answers": [{"text": "Anna", "label": 1}, {"text": "", "label": 0}, {"text": "nobody", "label": False}],
            },
            {"question": "Where?", "answers": [{"text": "London", "label": True}]},
        ],
    },
}


def read(fields=FIELDS, labelled=True):
    return MultiRC().read([Record(fields, "data.jsonl", 3)], labelled=labelled, first=2)[0]


def without_labels():
    fields = copy.deepcopy(FIELDS)
    for question in fields["passage"]["questions"]:
        for answer in question["answers"]:
            del answer["label"]
    return fields


def logits_for(*probabilities):
    return [torch.tensor([0.0, math.log(p / (1 - p))]) for p in probabilities]


class TestRead:
    def test_a_passage_with_its_questions(self):
        example = read()
        assert (example.id, example.passage) == ("7", "Anna visited London.")
        assert [question.id for question in example.questions] == ["70", "7-1"]
        assert [question.candidates for question in example.questions] == [("Anna", "", "nobody"), ("London",)]
        assert [question.right for question in example.questions] == [(True, False, False), (True,)]

    def test_labels_may_be_missing_only_in_prediction(self):
        fields = without_labels()
        assert [question.right for question in read(fields, labelled=False).questions] == [None, None]
        with pytest.raises(DataError, match=r"'passage\.questions\[0\]\.answers\[0\]\.label': missing"):
            read(fields)

    @pytest.mark.parametrize(
        ("path", "value", "says"),
        [
            (("text",), " ", "'passage.text': is empty"),
            (("text",), 5, "'passage.text': expected a text, found a number"),
            (("questions",), [], "'passage.questions': is empty"),
            (("questions",), {}, "'passage.questions': expected a list, found an object"),
            (("questions", 1), "Who?", "'passage.questions[1]': expected an object, found a text"),
            (("questions", 1, "question"), "", "'passage.questions[1].question': is empty"),
            (("questions", 1, "answers"), [], "'passage.questions[1].answers': is empty"),
            (("questions", 1, "answers", 0), {"label": 1}, "'passage.questions[1].answers[0].text': missing"),
            (("questions", 0, "answers", 1, "label"), 2, "'passage.questions[0].answers[1].label': expected 0, 1"),
            (("questions", 0, "answers", 1, "label"), "1", "'passage.questions[0].answers[1].label': expected 0, 1"),
            (("questions", 0, "answers", 1, "label"), 1.0, "'passage.questions[0].answers[1].label': expected 0, 1"),
        ],
    )
    def test_what_is_wrong_is_told_with_its_place(self, path, value, says):
        fields = copy.deepcopy(FIELDS)
        place = fields["passage"]
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        with pytest.raises(DataError, match=re.escape(f"data.jsonl:3: field {says}")):
            read(fields)


class TestEncode:
    @TOKENIZERS
    def test_one_row_per_candidate(self, tokenizer):
        encoding = MultiRC().encode(read(), tokenizer(), 64)
        statements = ["Who was it? Anna", "Who was it? ", "Who was it? nobody", "Where? London"]
        assert [row.targets for row in encoding.rows] == [{"right": right} for right in (1, 0, 0, 1)]
        assert encoding.note is None
        for row, statement in zip(encoding.rows, statements, strict=True):
            expected = tokenizer()("Anna visited London.", statement)
            assert row.input_ids == expected["input_ids"]
            assert row.token_type_ids == expected.get("token_type_ids")

    @TOKENIZERS
    def test_the_passage_alone_is_cut(self, tokenizer):
        fields = copy.deepcopy(FIELDS)
        fields["passage"]["text"] = "Anna visited London. " * 20
        encoding = MultiRC().encode(read(fields), tokenizer(), 40)
        assert encoding.note == "truncated"
        for row, statement in zip(encoding.rows, ["Who was it? Anna", "Who was it? "], strict=False):
            whole = tokenizer()(fields["passage"]["text"], statement)["input_ids"]
            kept = len(tokenizer()(statement, add_special_tokens=False)["input_ids"])
            assert len(row) == 40
            assert row.input_ids[-kept:] == whole[-kept:]
            assert row.input_ids[:20] == whole[:20]

    @TOKENIZERS
    def test_a_candidate_that_leaves_no_room_is_refused(self, tokenizer):
        fields = copy.deepcopy(FIELDS)
        fields["passage"]["questions"][0]["answers"][2]["text"] = "Anna visited London. " * 9
        with pytest.raises(DataError, match=r"question 70: with a candidate it has \d+ tokens .* in a row of 32"):
            MultiRC().encode(read(fields), tokenizer(), 32)

    def test_without_labels_there_is_no_target(self):
        rows = MultiRC().encode(read(without_labels(), labelled=False), tiny_bert_tokenizer(), 64).rows
        assert [row.targets for row in rows] == [{}] * 4


def test_the_loss_is_the_mean_negative_log_probability():
    probabilities, right = [0.3, 0.9], [1, 0]
    loss = MultiRC().loss(torch.stack(logits_for(*probabilities)), {"right": torch.tensor(right)})
    assert loss.item() == pytest.approx(-(math.log(0.3) + math.log(0.1)) / 2, rel=1e-5)


class TestPredictions:
    def predicted(self, *probabilities):
        return MultiRC().decode(read(), (), logits_for(*probabilities))

    def test_what_is_more_probable_than_not_is_right(self):
        prediction = self.predicted(0.75, 0.25, 0.6, 0.1)
        assert prediction.probabilities == (pytest.approx((0.75, 0.25, 0.6)), pytest.approx((0.1,)))
        assert MultiRC().to_json(read(), prediction) == {
            "id": "7",
            "questions": [
                {
                    "id": "70",
                    "question": "Who was it?",
                    "answers": [
                        {"text": "Anna", "label": 1, "probability": 0.75},
                        {"text": "", "label": 0, "probability": 0.25},
                        {"text": "nobody", "label": 1, "probability": 0.6},
                    ],
                },
                {
                    "id": "7-1",
                    "question": "Where?",
                    "answers": [{"text": "London", "label": 0, "probability": 0.1}],
                },
            ],
        }

    def test_scores_are_of_questions_and_not_of_passages(self):
        scores = MultiRC().score(
            [read(), read()], [self.predicted(0.9, 0.1, 0.1, 0.1), self.predicted(0.9, 0.9, 0.1, 0.9)]
        )
        assert (scores.counts["questions"], scores.counts["answers"]) == (4, 8)
        assert scores.values["exact_match"] == 2 / 4
        assert scores.main_value == pytest.approx(2 * 3 / (4 + 4))

    def test_the_threshold_is_that_of_the_best_f1_over_all_answers(self):
        # Right are the first and the last of four: 0.4, 0.3, 0.45 and 0.12. Above a quarter stand three of them and
        # nothing else; down to the last, two wrong ones come along.
        predictions = [self.predicted(0.4, 0.1, 0.2, 0.3), self.predicted(0.45, 0.1, 0.2, 0.12)]
        settled = MultiRC().settle([read(), read()], predictions)
        assert settled.threshold == pytest.approx((0.2 + 0.3) / 2)
        assert MultiRC().score([read(), read()], predictions).main_value == 0
        assert settled.score([read(), read()], predictions).main_value == pytest.approx(2 * 3 / (3 + 4))
        assert settled.to_json(read(), predictions[0])["questions"][1]["answers"][0]["label"] == 1
        assert settled.answer_key(predictions[0]) == "right wrong wrong right"

    def test_a_threshold_that_is_set_stays(self):
        task = MultiRC(threshold=0.5)
        assert task.settle([read()], [self.predicted(0.4, 0.1, 0.1, 0.3)]) is task

    def test_one_answer_to_everything_is_seen_whatever_the_number_of_candidates(self):
        keys = {MultiRC().answer_key(MultiRC().decode(read(), (), logits_for(*[p] * 4))) for p in (0.9, 0.8)}
        assert keys == {"right"}
        assert MultiRC().answer_key(self.predicted(0.1, 0.2, 0.3, 0.4)) == "wrong"
        assert MultiRC().answer_key(self.predicted(0.9, 0.2, 0.3, 0.4)) == "right wrong wrong wrong"
