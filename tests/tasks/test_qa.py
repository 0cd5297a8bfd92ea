from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foreword.data.batching import Encoded
from foreword.data.examples import Answer, QuestionExample
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.tasks import QA
from tiny import tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer

TOKENIZERS = pytest.mark.parametrize(
    "tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer]
)
WORDS = ["Anna", "visited", "London", ".", "didn't", "York-based", "x", "Germany", "zqxj", "\u5317\u4eac", "(movie)"]


@st.composite
def questions(draw):
    """A question, a context of words, and an answer of some of them."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=80))
    first = draw(st.integers(0, len(words) - 1))
    answer = " ".join(words[first : first + draw(st.integers(1, 12))])
    start = sum(len(word) + 1 for word in words[:first])
    question = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3)))
    return QuestionExample(id="1", question=question, context=" ".join(words), answers=(Answer(answer, start),))


def tokens_of(tokenizer, text):
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def perfect_logits(row, generator):
    logits = torch.randn(len(row), 2, generator=generator)
    logits[row.targets["start"], 0] = logits[row.targets["end"], 1] = 30
    return logits


@TOKENIZERS
@given(example=questions(), window=st.integers(36, 90), stride=st.integers(0, 35), limit=st.integers(36, 128))
def test_windows_hold_every_answer_or_say_that_they_do_not(tokenizer, example, window, stride, limit):
    tokenizer, answer = tokenizer(), example.answers[0]
    task = QA(window=window, stride=max(stride, 1), max_answer_tokens=100)
    encoding = task.encode(example, tokenizer, limit)
    holders = [row for row in encoding.rows if row.targets["start"]]
    for row in encoding.rows:
        assert len(row) <= min(window, limit)
        read = [span for span, reads in zip(row.offsets, row.reads, strict=True) if reads]
        inside = read[0][0] <= answer.start and answer.start + len(answer.text) <= read[-1][1]
        assert inside == (row in holders)
    for row in holders:
        span = row.offsets[row.targets["start"]][0], row.offsets[row.targets["end"]][1]
        assert example.context[slice(*span)] == answer.text
    assert (encoding.note == "whose answer no window holds") == (not holders)
    room = min(window, limit) - len(tokenizer(example.question)["input_ids"]) - 4
    if tokens_of(tokenizer, " " + answer.text) <= min(task.stride, room // 2) - 2:
        assert holders, "an answer shorter than the stride is whole in some window"


@TOKENIZERS
@given(example=questions(), window=st.integers(36, 90), stride=st.integers(1, 35))
def test_windows_read_every_word_of_the_context(tokenizer, example, window, stride):
    rows = QA(window=window, stride=stride).encode(example, tokenizer(), 128).rows
    read = {
        c for row in rows for (a, b), reads in zip(row.offsets, row.reads, strict=True) if reads for c in range(a, b)
    }
    assert {c for c, char in enumerate(example.context) if char != " "} <= read


@TOKENIZERS
@given(example=questions(), window=st.integers(40, 90))
def test_perfect_logits_give_the_answer_back(tokenizer, example, window):
    task = QA(window=window, stride=20, max_answer_tokens=100, unanswerable=True)
    encoding, generator = task.encode(example, tokenizer(), 128), torch.Generator().manual_seed(0)
    prediction = task.decode(example, encoding.rows, [perfect_logits(row, generator) for row in encoding.rows])
    if encoding.note == "whose answer no window holds":
        assert (prediction.text, prediction.start) == ("", None)
        return
    answer = example.answers[0]
    found = task.to_json(example, prediction)
    # Windows without the answer are just as sure of 'no answer', and must not win.
    assert (prediction.text, prediction.start) == (answer.text, answer.start)
    assert prediction.end == answer.start + len(answer.text)
    assert prediction.probability > 0.999
    assert (found["answer"], found["start"], found["end"]) == (prediction.text, prediction.start, prediction.end)


@TOKENIZERS
def test_a_window_far_shorter_than_the_stride_still_moves_on(tokenizer):
    words = ["Anna visited London."] * 60
    example = QuestionExample(id="1", question="It", context=" ".join(words))
    length = tokens_of(tokenizer(), example.context)
    rows = QA().encode(example, tokenizer(), 48).rows
    assert len(rows) <= math.ceil(length / 18)


@TOKENIZERS
def test_a_short_context_is_one_row_as_the_tokenizer_gives_it(tokenizer):
    example = QuestionExample(id="1", question=" It ", context="Anna visited London.")
    encoding = QA().encode(example, tokenizer(), 128)
    (row,) = encoding.rows
    expected = tokenizer()("It", "Anna visited London.")
    assert row.input_ids == expected["input_ids"]
    assert row.token_type_ids == expected.get("token_type_ids")
    assert row.targets == {}
    assert encoding.note is None


def test_a_question_without_answer_points_at_the_first_token():
    example = QuestionExample(id="1", question="It", context="Anna visited London. " * 20, answers=())
    encoding = QA(window=40, stride=10).encode(example, tiny_bert_tokenizer(), 128)
    assert len(encoding.rows) > 1
    assert all(row.targets == {"start": 0, "end": 0} for row in encoding.rows)
    assert encoding.note == "with several windows"


def test_a_question_that_leaves_no_room_is_refused():
    example = QuestionExample(id="q7", question="Anna visited London " * 9, context="It", answers=())
    with pytest.raises(DataError, match=r"question q7: it leaves no room .* window of 32 tokens"):
        QA(window=64, stride=8).encode(example, tiny_bert_tokenizer(), 32)


def row_of(length, first=2):
    """A row whose tokens from ``first`` on are one character of the context each."""
    return Encoded(
        input_ids=[0] * length,
        offsets=[(0, 0)] * first + [(i, i + 1) for i in range(length - first)],
        reads=[False] * first + [True] * (length - first),
    )


CONTEXT = QuestionExample(id="1", question="?", context="abcdefgh")


class TestDecode:
    def logits(self, starts, ends, length=7):
        logits = torch.zeros(length, 2)
        for column, values in enumerate((starts, ends)):
            for token, value in values.items():
                logits[token, column] = value
        return logits

    def decode(self, logits, **settings):
        return QA(**settings).decode(CONTEXT, [row_of(len(logits))], [logits])

    def test_the_question_and_special_tokens_are_no_answer(self):
        prediction = self.decode(self.logits({0: 9, 1: 9, 3: 1}, {0: 9, 1: 9, 4: 1}))
        assert (prediction.text, prediction.start, prediction.end) == ("bc", 1, 3)
        assert prediction.score == pytest.approx(2 - 18)

    def test_an_end_before_its_start_is_no_answer(self):
        assert self.decode(self.logits({5: 9, 3: 1}, {4: 9, 5: 2})).text == "d"

    def test_no_answer_is_longer_than_wanted(self):
        logits = self.logits({2: 9}, {6: 9, 4: 5})
        assert self.decode(logits, max_answer_tokens=5).text == "abcde"
        assert self.decode(logits, max_answer_tokens=4).text == "abc"

    def test_the_probability_is_among_all_spans_and_no_answer(self):
        logits = torch.randn(7, 2, generator=torch.Generator().manual_seed(4))
        spans = {(s, e): float(logits[s, 0] + logits[e, 1]) for s in range(2, 7) for e in range(s, min(s + 3, 7))}
        best = max(spans, key=spans.__getitem__)
        total = sum(map(math.exp, spans.values())) + math.exp(logits[0, 0] + logits[0, 1])
        prediction = self.decode(logits, max_answer_tokens=3)
        assert (prediction.start, prediction.end) == (best[0] - 2, best[1] - 1)
        assert prediction.probability == pytest.approx(math.exp(spans[best]) / total, rel=1e-5)
        assert prediction.score == pytest.approx(spans[best] - float(logits[0].sum()), rel=1e-5)

    @pytest.mark.parametrize(("threshold", "answered"), [(0.0, True), (1.9, True), (2.0, False), (5.0, False)])
    def test_an_answer_must_beat_no_answer_by_the_threshold(self, threshold, answered):
        logits = self.logits({0: 1, 3: 3}, {0: 1, 3: 1})  # 4 against 2
        prediction = self.decode(logits, unanswerable=True, threshold=threshold)
        assert prediction.score == pytest.approx(2)
        assert prediction.text == ("b" if answered else "")
        assert (prediction.start is None) is not answered
        assert self.decode(logits, unanswerable=False, threshold=threshold).text == "b"

    def test_the_best_span_of_all_windows(self):
        windows = [self.logits({3: value}, {3: value}) for value in (1, 5, 3)]
        rows = [row_of(7) for _ in windows]
        rows[1] = Encoded(
            input_ids=[0] * 7, offsets=[(0, 0), (0, 0), *((i, i + 1) for i in range(3, 8))], reads=rows[1].reads
        )
        prediction = QA().decode(CONTEXT, rows, windows)
        assert (prediction.text, prediction.start) == ("e", 4)

    def test_nothing_to_read(self):
        row = Encoded(input_ids=[0, 0], offsets=[(0, 0)] * 2, reads=[False] * 2)
        prediction = QA().decode(CONTEXT, [row], [torch.zeros(2, 2)])
        assert (prediction.text, prediction.start) == ("", None)
        assert QA().to_json(CONTEXT, prediction)["answer"] is None


def test_the_loss_is_the_mean_of_start_and_end():
    logits = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    targets = {"start": [1, 0], "end": [2, 0]}
    by_hand = [
        -math.log(math.exp(logits[b, targets[name][b], c]) / sum(math.exp(x) for x in logits[b, :, c]))
        for b in range(2)
        for c, name in enumerate(targets)
    ]
    loss = QA().loss(logits, {name: torch.tensor(target) for name, target in targets.items()})
    assert loss.item() == pytest.approx(sum(by_hand) / 4, rel=1e-5)


class TestRead:
    FIELDS: ClassVar = {"question": "Who?", "context": "Anna visited London.", "id": "q1"}

    def read(self, answers, **settings):
        record = Record({**self.FIELDS, "answers": answers}, "squad.jsonl", 5)
        return QA(**settings).read([record], labelled=True)[0]

    @pytest.mark.parametrize(
        "answers",
        [
            [{"text": "London", "answer_start": 13}, {"text": "Anna", "answer_start": 0}],
            {"text": ["London", "Anna"], "answer_start": [13, 0]},
        ],
    )
    def test_both_shapes_of_answers(self, answers):
        example = self.read(answers)
        assert example.answers == (Answer("London", 13), Answer("Anna", 0))
        assert example.id == "q1"

    @pytest.mark.parametrize("answers", [[], {"text": [], "answer_start": []}])
    def test_no_answer(self, answers):
        assert self.read(answers).answers == ()

    @pytest.mark.parametrize(
        ("text", "start"), [("London", 12), ("London", -7), ("Paris", 13), ("London.x", 13), ("x", 99)]
    )
    def test_an_answer_that_is_not_in_its_context(self, text, start):
        with pytest.raises(DataError, match=r"squad\.jsonl:5: field 'answers': answer '.*' is not in its context"):
            self.read([{"text": text, "answer_start": start}])

    @pytest.mark.parametrize(
        "answers",
        [
            "London",
            [{"text": "", "answer_start": 0}],
            [{"text": "Anna"}],
            [{"text": "Anna", "answer_start": "0"}],
            {"text": "Anna", "answer_start": 0},
            {"text": ["Anna", "London"], "answer_start": [0]},
            None,
        ],
    )
    def test_what_is_no_list_of_answers(self, answers):
        with pytest.raises(DataError, match=r"squad\.jsonl:5: field 'answers': expected"):
            self.read(answers)

    def test_unanswerable_is_found_from_training(self):
        some, none = self.read([{"text": "Anna", "answer_start": 0}]), self.read([])
        assert QA().with_labels_from([some]).unanswerable is False
        assert QA().with_labels_from([some, none]).unanswerable is True
        assert QA(unanswerable=True).with_labels_from([some]).unanswerable is True

    def test_an_unanswerable_question_that_training_had_not(self):
        record = Record({**self.FIELDS, "answers": []}, "dev.jsonl", 2)
        examples = QA().read([record], labelled=True)
        with pytest.raises(DataError, match=r"dev\.jsonl:2: .*no answer.*unanswerable = true"):
            QA(unanswerable=False).check_labels([record], examples)
        QA(unanswerable=True).check_labels([record], examples)


def test_a_stride_as_long_as_the_window_is_refused():
    with pytest.raises(ValidationError, match=r"stride \(64\) must be smaller than window \(64\)"):
        QA(window=64, stride=64)
