from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import replace
from typing import ClassVar
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import foreword as fw
from foreword.cli.main import main
from foreword.data.batching import Encoded
from foreword.data.examples import Answer, QuestionExample
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.errors import DataError, TaskError
from foreword.tasks import QA
from foreword.tasks.making.answers import best_spans, fullest_windows
from tiny import tiny_backbone, tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer
from tiny_artifacts import records, tiny_artifact

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
@given(example=questions(), window=st.integers(36, 90), stride=st.integers(1, 35))
def test_windows_are_those_of_the_tokenizer(tokenizer, example, window, stride):
    """Which would cut them itself, if it were told how much room the question leaves."""
    question, tokens = example.question, tokenizer()
    stride = min(stride, (window - len(tokens(question)["input_ids"]) - 2) // 2)
    rows = QA(window=window, stride=stride).encode(example, tokens, 128).rows
    expected = tokens(
        question,
        example.context,
        truncation="only_second",
        max_length=window,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    assert [row.input_ids for row in rows] == expected["input_ids"]
    assert [row.token_type_ids for row in rows] == expected.get("token_type_ids", [None] * len(rows))
    for number, row in enumerate(rows):
        theirs = zip(expected["offset_mapping"][number], expected.sequence_ids(number), strict=True)
        read = [example.context[a:b].strip() if which == 1 else "" for (a, b), which in theirs]
        assert [example.context[a:b] for a, b in row.offsets] == read
        assert list(row.reads) == [bool(text) for text in read]


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
    answer = example.answers[0]
    found = task.to_json(example, prediction)
    fullest = zip(encoding.rows, fullest_windows(encoding.rows), strict=True)
    # Where no window holds it, or the one that does has less context around its first token than another, it is lost.
    if not any(starts[row.targets["start"]] for row, starts in fullest):
        assert found["answer"] != answer.text or example.context.count(answer.text) > 1
        return
    # Windows without the answer are just as sure of 'no answer', and must not win.
    assert found["answer"] == answer.text
    assert example.context[found["start"] : found["end"]] == answer.text
    assert found["probability"] > 0.999
    assert task.answer_key(prediction) == prediction.text == answer.text


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


@TOKENIZERS
def test_a_matching_head_is_told_which_tokens_are_the_question(tokenizer):
    tokens, words = tokenizer(), ["Anna", "visited", "London", "."] * 20
    example = QuestionExample(id="1", question=" Anna visited ? ", context=" ".join(words), answers=None)
    rows = QA(window=30, stride=4, head="matching").encode(example, tokens, 30).rows
    assert len(rows) > 2
    for row in rows:
        marked = [token for token, mark in zip(row.input_ids, row.marks, strict=True) if mark]
        assert marked == tokens("Anna visited ?", add_special_tokens=False)["input_ids"]
        assert not any(mark and reads for mark, reads in zip(row.marks, row.reads, strict=True))
    assert all(row.marks == () for row in QA(window=30, stride=4).encode(example, tokens, 30).rows)


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


def logits_of(starts, ends, length=7):
    logits = torch.zeros(length, 2)
    for column, values in enumerate((starts, ends)):
        for token, value in values.items():
            logits[token, column] = value
    return logits


def decode(logits, example=CONTEXT, **settings):
    return QA(**settings).decode(example, [row_of(len(logits))], [logits])


class TestDecode:
    def test_the_question_and_special_tokens_are_no_answer(self):
        prediction = decode(logits_of({0: 9, 1: 9, 3: 1}, {0: 9, 1: 9, 4: 1}))
        best = prediction.candidates[0]
        assert (best.text, best.start, best.end, best.score) == ("bc", 1, 3, 2)
        assert prediction.margin == pytest.approx(2 - 18)

    def test_an_end_before_its_start_is_no_answer(self):
        assert decode(logits_of({5: 9, 3: 1}, {4: 9, 5: 2})).text == "d"

    def test_no_answer_is_longer_than_wanted(self):
        logits = logits_of({2: 9}, {6: 9, 4: 5})
        assert decode(logits, max_answer_tokens=5).text == "abcde"
        assert decode(logits, max_answer_tokens=4).text == "abc"

    @pytest.mark.parametrize("unanswerable", [False, True])
    @pytest.mark.parametrize("n_best", [1, 4, 99])
    def test_probabilities_are_among_the_best_and_no_answer(self, unanswerable, n_best):
        logits = torch.randn(7, 2, generator=torch.Generator().manual_seed(4))
        spans = {(s, e): float(logits[s, 0] + logits[e, 1]) for s in range(2, 7) for e in range(s, min(s + 3, 7))}
        best = sorted(spans, key=spans.__getitem__, reverse=True)[:n_best]
        null = math.exp(logits[0].sum()) if unanswerable else 0.0
        total = sum(math.exp(spans[span]) for span in best) + null
        prediction = decode(logits, max_answer_tokens=3, n_best=n_best, unanswerable=unanswerable)
        assert [(c.start + 2, c.end + 1) for c in prediction.candidates] == best
        for candidate, span in zip(prediction.candidates, best, strict=True):
            assert candidate.probability == pytest.approx(math.exp(spans[span]) / total, rel=1e-5)
        assert prediction.null_probability == pytest.approx(null / total, rel=1e-5)
        assert prediction.margin == pytest.approx(spans[best[0]] - float(logits[0].sum()), rel=1e-5)

    def test_the_best_spans_of_all_windows_each_text_once(self):
        """The text is abcdefgh; the windows hold abcdef and cdefgh."""
        rows = [row_of(8), row_of(8)]
        rows[1] = replace(rows[1], offsets=[(0, 0), (0, 0), *((i, i + 1) for i in range(2, 8))])
        windows = [logits_of({4: 5, 6: 9}, {4: 5, 6: 9}, 8), logits_of({2: 9, 5: 4}, {2: 9, 5: 4}, 8)]
        windows[1][0] = -4  # the window surest that there is nothing is not believed
        task = QA(n_best=3, unanswerable=True, max_answer_tokens=2)
        prediction = task.decode(CONTEXT, rows, windows)
        # 'c' and 'd' have more context in the first window, 'e' and 'f' in the second; the other has no say.
        assert [(c.text, c.start, c.score) for c in prediction.candidates] == [("c", 2, 10), ("de", 3, 9), ("f", 5, 8)]
        assert prediction.null_score == -8

    def test_one_text_in_two_places_is_at_the_better_one(self):
        example = QuestionExample(id="1", question="?", context="abab")
        prediction = decode(logits_of({2: 1, 4: 3}, {2: 1, 4: 3}, length=6), example, max_answer_tokens=1)
        assert (prediction.text, prediction.candidates[0].start) == ("a", 2)
        assert [c.text for c in prediction.candidates] == ["a", "b"]

    def test_nothing_to_read(self):
        row = Encoded(input_ids=[0, 0], offsets=[(0, 0)] * 2, reads=[False] * 2)
        for unanswerable in (False, True):
            task = QA(unanswerable=unanswerable)
            prediction = task.decode(CONTEXT, [row], [torch.zeros(2, 2)])
            assert (prediction.text, prediction.margin) == ("", -math.inf)
            assert task.to_json(CONTEXT, prediction)["answer"] is None
            nothing = {"answer": None, "start": None, "end": None, "probability": 1.0}
            assert task.candidates(CONTEXT, prediction) == [nothing] * unanswerable

    def test_candidates_as_they_are_written(self):
        task = QA(n_best=2, unanswerable=True)
        prediction = task.decode(CONTEXT, [row_of(3)], [logits_of({0: 1, 2: 3}, {}, length=3)])
        best, none = task.candidates(CONTEXT, prediction)
        share = round(1 / (1 + math.exp(-2)), 6)  # 3 against 1
        assert best == {"answer": "a", "start": 0, "end": 1, "probability": share}
        assert none == {"answer": None, "start": None, "end": None, "probability": round(1 - share, 6)}
        assert len(QA(unanswerable=False).candidates(CONTEXT, prediction)) == 1


@TOKENIZERS
@given(example=questions(), window=st.integers(36, 60), stride=st.integers(1, 20))
def test_every_token_may_start_an_answer_in_its_fullest_window(tokenizer, example, window, stride):
    """Exactly one window, found by a slow search of all of them for each token."""
    rows = QA(window=window, stride=stride).encode(example, tokenizer(), 128).rows
    texts = [[span for span, reads in zip(row.offsets, row.reads, strict=True) if reads] for row in rows]

    def context(number, span):
        text = texts[number]
        return max(min(i, len(text) - 1 - i) + 0.01 * len(text) for i, found in enumerate(text) if found == span)

    chosen = {span: set() for text in texts for span in text}
    for number, (row, starts) in enumerate(zip(rows, fullest_windows(rows), strict=True)):
        for span, start in zip(row.offsets, starts, strict=True):
            if start:
                chosen[span].add(number)
    for span, numbers in chosen.items():
        (number,) = numbers
        holders = [other for other, text in enumerate(texts) if span in text]
        assert context(number, span) == max(context(other, span) for other in holders)


@given(
    length=st.integers(1, 24),
    longest=st.integers(1, 30),
    count=st.integers(1, 40),
    starts=st.lists(st.booleans(), min_size=24, max_size=24),
    ends=st.lists(st.booleans(), min_size=24, max_size=24),
    seed=st.integers(0, 99),
)
def test_no_span_is_missed(length, longest, count, starts, ends, seed):
    """Against every pair of tokens, one after the other."""
    scores = torch.randn(length, 2, generator=torch.Generator().manual_seed(seed))
    every = [
        (float(scores[first, 0] + scores[last, 1]), first, last)
        for first in range(length)
        for last in range(first, length)
        if starts[first] and ends[last] and last - first < longest
    ]
    allowed = torch.tensor(starts[:length]), torch.tensor(ends[:length])
    assert best_spans(scores, *allowed, longest, count) == sorted(every, reverse=True)[:count]


class TestThreshold:
    LOGITS = logits_of({0: 1, 3: 3}, {0: 1, 3: 1})  # 4 against 2

    @pytest.mark.parametrize(
        ("threshold", "answered"), [(None, True), (0.0, True), (1.9, True), (2.0, False), (5.0, False)]
    )
    def test_an_answer_must_beat_no_answer_by_it(self, threshold, answered):
        task = QA(unanswerable=True, threshold=threshold)
        prediction = task.decode(CONTEXT, [row_of(7)], [self.LOGITS])
        assert prediction.margin == pytest.approx(2)
        assert task.answer_key(prediction) == ("b" if answered else "")
        found = task.to_json(CONTEXT, prediction)
        assert (found["answer"], found["start"]) == (("b", 1) if answered else (None, None))
        given = prediction.candidates[0].probability if answered else prediction.null_probability
        assert found["probability"] == pytest.approx(given, abs=1e-6)
        assert QA(unanswerable=False, threshold=threshold).answer_key(prediction) == "b"

    def questions(self):
        """Of which the second and the fourth have no answer, with margins of 5, 3, 2 and 1."""
        answers = [(Answer("b", 1),), (), (Answer("b", 1),), ()]
        examples = [QuestionExample(id="", question="?", context="abcdefgh", answers=a) for a in answers]
        predictions = [decode(logits_of({3: m - 1}, {3: 1}), unanswerable=True) for m in (5, 3, 2, 1)]
        return examples, predictions

    def test_it_is_found_on_dev(self):
        examples, predictions = self.questions()
        settled = QA(unanswerable=True).settle(examples, predictions)
        assert settled.threshold == 4.0
        assert settled.score(examples, predictions).values["f1"] == 3 / 4
        assert QA(unanswerable=True).score(examples, predictions).values["f1"] == 3 / 4 - 1 / 4
        assert settled.score(examples, predictions).counts["no_answer"] == 2
        assert settled.settle(examples[:1], predictions[:1]) == settled

    @pytest.mark.parametrize("settings", [{"unanswerable": False}, {"unanswerable": True, "threshold": 0.5}])
    def test_nothing_is_chosen_where_there_is_nothing_to_choose(self, settings):
        assert QA(**settings).settle(*self.questions()) == QA(**settings)

    def test_a_trained_artifact_keeps_it(self, tmp_path):
        data = [
            {"question": "What is it?", "context": f"Anna visited {place}.", "answers": answers}
            for place in ("London", "Germany", "London it", "Germany Peter")
            for answers in ([{"text": "Anna", "answer_start": 0}], [])
        ]
        options = {"train": data, "dev": data, "progress": False, "epochs": 1, "learning_rate": 1e-2}
        run = fw.train(tiny_backbone(), fw.PTuningV2(prompt_length=2), QA(), **options)
        assert run.outcome.task.threshold is not None
        run.save(tmp_path / "a")
        found = fw.load(tmp_path / "a")
        assert found.task == run.outcome.task
        assert found.evaluate(Source.of(data)).values == run.outcome.scores.values


def test_any_gold_text_counts_and_only_answers_are_learned():
    fields = {"question": "?", "context": "Rain fell.", "answers": [{"text": "Rain", "answer_start": 0}]}
    records = [Record(fields | {"golds": golds}, "a.jsonl", 1) for golds in (["water", "rain"], ["snow"], [])]
    examples = QA().read(records, labelled=True)
    prediction = decode(logits_of({2: 3}, {5: 3}, 6), QuestionExample(id="", question="?", context="Rain fell."))
    assert prediction.text == "Rain"
    scores = [QA().score([example], [prediction]).values for example in examples]
    assert [values["exact_match"] for values in scores] == [1, 0, 0]
    assert QA().with_labels_from(examples[:2]).unanswerable is False
    assert QA().with_labels_from(examples[2:]).unanswerable is True
    (row,) = QA().encode(examples[0], tiny_bert_tokenizer(), 32).rows
    assert row.offsets[row.targets["start"]][0] == 0
    with pytest.raises(DataError, match=r"field 'golds': expected a list of texts"):
        QA().read([Record(fields | {"golds": "rain"}, "a.jsonl", 1)], labelled=True)


def test_predict_lists_candidates(capsys):
    arguments = ["predict", str(tiny_artifact("qa", "head-only")), "--candidates"]
    feed = json.dumps(records("qa", labelled=False)[0])
    with patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(feed.encode()))):
        assert main([*arguments, "3"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["candidates"]) == 3
    shares = [candidate["probability"] for candidate in answer["candidates"]]
    assert shares == sorted(shares, reverse=True)
    given = {name: answer[name] for name in ("answer", "start", "end", "probability")}
    assert given in answer["candidates"] or answer["probability"] <= shares[-1]


def test_a_task_without_candidates_says_so():
    with pytest.raises(TaskError, match="task 'ner' has no candidates to list"):
        fw.load(tiny_artifact("ner", "head-only")).predict(records("ner", labelled=False), candidates=2)


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
