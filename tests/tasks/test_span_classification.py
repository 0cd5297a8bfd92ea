"""Marked stretches from the files to the rows: found, checked, never cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from foreword.data.examples import Span, SpansExample
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.heads import MarkedHead, PooledHead
from foreword.tasks import SpanClassification
from tiny import tiny_bert_tokenizer, tiny_gpt2_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer

TOKENIZERS = pytest.mark.parametrize(
    "tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer, tiny_gpt2_tokenizer]
)
MARKINGS = pytest.mark.parametrize("marking", ["pooled", "marked", "both"])
PAIR = {"text": "sentence1", "pair": "sentence2"}
WORDS = {"start": ["target.span1_index", "target.span2_index"], "span": ["target.span1_text", "target.span2_text"]}
WIC = {
    "sentence1": "A place by the river.",
    "sentence2": "Placed there by Anna.",
    "start1": 2,
    "end1": 7,
    "start2": 0,
    "end2": 6,
    "label": False,
    "idx": 4,
}
WSC = {
    "text": "Mark told Pete a lie. He should know.",
    "target": {"span1_index": 0, "span1_text": "Mark", "span2_index": 5, "span2_text": "He"},
    "label": True,
}


def read(fields, labelled=True, **settings):
    (example,) = SpanClassification(**settings).read([Record(fields, "data.jsonl", 3)], labelled=labelled, first=2)
    return example


class TestRead:
    def test_characters_in_either_text_of_a_pair(self):
        example = read(WIC, columns={**PAIR, "id": "idx"})
        assert (example.id, example.label) == ("4", "false")
        assert example.spans == (Span(2, 7), Span(0, 6))
        assert (example.text, example.pair) == (WIC["sentence1"], WIC["sentence2"])

    def test_words_of_one_text(self):
        example = read(WSC, columns=WORDS)
        assert (example.id, example.label, example.pair) == ("2", "true", None)
        assert [example.text[slice(*span)] for span in example.spans] == ["Mark", "He"]

    def test_one_stretch(self):
        columns = {"start": ["at"], "end": ["to"]}
        assert read({"text": "Anna left", "at": "5", "to": "9", "label": "x"}, columns=columns).spans == (Span(5, 9),)

    def test_white_space_at_the_ends_is_none_of_a_stretch(self):
        assert read(WIC | {"start1": 1, "end1": 8}, columns=PAIR).spans[0] == Span(2, 7)

    def test_a_label_may_be_missing_only_in_prediction(self):
        unlabelled = {name: value for name, value in WIC.items() if name != "label"}
        assert read(unlabelled, columns=PAIR, labelled=False).label is None
        with pytest.raises(DataError, match=r"data\.jsonl:3: field 'label': missing"):
            read(unlabelled, columns=PAIR)

    @pytest.mark.parametrize(
        ("changes", "says"),
        [
            ({"start1": 7}, "'start1': characters 7 to 7 are no stretch of its text, which has 21"),
            ({"end2": 22}, "'start2': characters 0 to 22 are no stretch"),
            ({"start1": -1}, "'start1': characters -1 to 7"),
            ({"start1": 1, "end1": 2}, "'start1': characters 1 to 2"),  # white space alone
            ({"start1": 8, "end1": 7}, "'start1': characters 8 to 7"),
            ({"start1": 2.0}, "'start1': expected a whole number, found 2.0"),
            ({"end1": True}, "'end1': expected a whole number, found True"),
            ({"end1": "x"}, "'end1': expected a whole number, found 'x'"),
            ({"sentence2": " "}, "'sentence2': is empty"),
        ],
    )
    def test_what_is_no_stretch(self, changes, says):
        with pytest.raises(DataError) as caught:
            read(WIC | changes, columns=PAIR)
        assert str(caught.value).startswith(f"data.jsonl:3: field {says}")

    def test_a_text_that_does_not_stand_at_its_word(self):
        wrong = {**WSC, "target": {**WSC["target"], "span2_index": 2}}
        with pytest.raises(DataError) as caught:
            read(wrong, columns=WORDS)
        assert str(caught.value) == (
            "data.jsonl:3: field 'target.span2_text': 'He' does not stand at word 2 of the text (there stands 'Pete')"
        )

    def test_a_target_that_is_not_there(self):
        with pytest.raises(DataError, match=r"field 'target\.span1_index': missing \(this record has: label, text\)"):
            read({"text": "x", "label": 1}, columns=WORDS)

    def test_two_stretches_that_are_one(self):
        same = {"text": "Anna left", "start1": 0, "end1": 4, "start2": 0, "end2": 4, "label": 1}
        with pytest.raises(DataError, match="field 'start2': both stretches are the same"):
            read(same)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"columns": {"start": ["a"]}}, "as many fields under 'start' as under 'end'"),
            ({"columns": {"start": ["a"], "span": ["b", "c"]}}, "as many fields under 'start' as under 'span'"),
            ({"columns": {"start": ["a"], "span": ["b"], "end": ["c"]}}, "'end' has no meaning with 'span'"),
            ({"columns": {"start": []}}, "at least 1 item"),
            ({"columns": {"start": ["a"] * 3, "end": ["b"] * 3}}, "at most 2 items"),
            ({"markers": ["*", "!"]}, "no meaning with marking = 'pooled'"),
            ({"marking": "both", "markers": ["*", " #"]}, "a marker is ' #'"),
            ({"marking": "both", "markers": ["*", ""]}, "a marker is ''"),
        ],
    )
    def test_settings_that_do_not_go_together(self, settings, says):
        with pytest.raises(ValidationError, match=says):
            SpanClassification(**settings)

    def test_labels_are_found_and_checked_as_in_classification(self):
        task, records = SpanClassification(columns=PAIR), [Record(WIC, "data.jsonl", 3)]
        examples = task.read(records, labelled=True)
        assert task.with_labels_from(examples).labels == ("false",)
        with pytest.raises(DataError, match="label 'false' does not occur in the training data"):
            SpanClassification(columns=PAIR, labels=("no", "yes")).check_labels(records, examples)


@st.composite
def examples(draw):
    """One text or two, with one or two stretches of whole words that do not overlap."""
    words = st.lists(
        st.sampled_from(["Anna", "visited", "London", ".", "didn't", "zqxj", "\u5317\u4eac", "x"]),
        min_size=3,
        max_size=30,
    )

    def stretch(words, low, high):
        first = draw(st.integers(low, high - 1))
        last = draw(st.integers(first, min(high - 1, first + 3)))
        start = sum(len(word) + 1 for word in words[:first])
        return Span(start, start + len(" ".join(words[first : last + 1])))

    text = draw(words)
    if draw(st.booleans()):
        pair = draw(words)
        spans = (stretch(text, 0, len(text)), stretch(pair, 0, len(pair)))
        return SpansExample(id="1", text=" ".join(text), pair=" ".join(pair), spans=spans)
    cut = draw(st.integers(1, len(text) - 1))
    spans = (stretch(text, 0, cut), stretch(text, cut, len(text)))
    return SpansExample(id="1", text=" ".join(text), spans=spans[:: draw(st.sampled_from([1, -1]))])


def texts_of(example):
    return [example.text] if example.pair is None else [example.text, example.pair]


def by_hand(example, tokenizer):
    """Ids, of which stretch each token is, and of which text: one character after the other."""
    encoded = tokenizer(*texts_of(example), return_offsets_mapping=True)
    sequences, marks = encoded.sequence_ids(0), [0] * len(encoded["input_ids"])
    for number, span in enumerate(example.spans, 1):
        owner = 0 if example.pair is None else number - 1
        places = zip(sequences, encoded["offset_mapping"], strict=True)
        inside = [
            i for i, (text, offset) in enumerate(places) if text == owner and set(range(*offset)) & set(range(*span))
        ]
        marks[inside[0] : inside[-1] + 1] = [number] * (inside[-1] + 1 - inside[0])
    return encoded["input_ids"], marks, sequences


@TOKENIZERS
@given(example=examples(), max_length=st.integers(8, 60))
def test_no_truncation_cuts_a_stretch(tokenizer, example, max_length):
    tokenizer, task = tokenizer(), SpanClassification()
    ids, marks, sequences = by_hand(example, tokenizer)
    fixed = sum(1 for mark, sequence in zip(marks, sequences, strict=True) if mark or sequence is None)
    if fixed > max_length:
        with pytest.raises(DataError, match=rf"example 1: its marked stretches do not fit .* {max_length} tokens"):
            task.encode(example, tokenizer, max_length)
        return
    encoding = task.encode(example, tokenizer, max_length)
    (row,) = encoding.rows
    assert len(row) == min(max_length, len(ids))
    assert (encoding.note == "truncated") == (len(ids) > max_length)
    if encoding.note is None:
        assert (row.input_ids, list(row.marks)) == (ids, marks)
        return
    assert [(i, m) for i, m in zip(row.input_ids, row.marks, strict=True) if m] == [
        (i, m) for i, m in zip(ids, marks, strict=True) if m
    ]
    tokens = iter(ids)
    assert all(token in tokens for token in row.input_ids), "in their order"


@TOKENIZERS
def test_what_is_far_from_the_stretches_goes_first(tokenizer):
    words = [f"word{number}" for number in range(30)]
    start = " ".join(words).index("word15")
    example = SpansExample(id="1", text=" ".join(words), spans=(Span(start, start + len("word15")),))
    task = SpanClassification(columns={"start": ["start"], "end": ["end"]})
    tokenizer = tokenizer()
    ids, marks, sequences = by_hand(example, tokenizer)
    (row,) = task.encode(example, tokenizer, 40).rows
    text = [i for i, sequence in enumerate(sequences) if sequence == 0]
    marked = [i for i in text if marks[i]]
    distance = {i: min(abs(i - m) for m in marked) for i in text}
    order = sorted(text, key=lambda i: (distance[i], i))
    kept = sorted([*(i for i, s in enumerate(sequences) if s is None), *order[: 40 - (len(ids) - len(text))]])
    assert row.input_ids == [ids[i] for i in kept]


@TOKENIZERS
@MARKINGS
def test_the_longer_of_a_pair_is_cut(tokenizer, marking):
    example = SpansExample(id="1", text="It left", pair="Anna visited London. " * 20, spans=(Span(0, 2), Span(0, 4)))
    tokenizer = tokenizer()
    (row,) = SpanClassification(marking=marking).encode(example, tokenizer, 32).rows
    assert len(row) == 32
    short = tokenizer("It left" if marking == "pooled" else "* It * left", add_special_tokens=False)["input_ids"]
    assert any(row.input_ids[i : i + len(short)] == short for i in range(3)), "the short one is whole"


@TOKENIZERS
def test_markers_stand_around_the_stretches(tokenizer):
    example = SpansExample(id="1", text="Anna visited London.", spans=(Span(13, 19), Span(0, 4)))
    tokenizer = tokenizer()
    expected = tokenizer("# Anna # visited * London *.")["input_ids"]
    for marking in ("marked", "both"):
        (row,) = SpanClassification(marking=marking).encode(example, tokenizer, 64).rows
        assert row.input_ids == expected
        if marking == "marked":
            assert not row.marks
        else:
            pieces = [
                tokenizer.decode([i for i, m in zip(row.input_ids, row.marks, strict=True) if m == n]) for n in (1, 2)
            ]
            assert [piece.strip().lower() for piece in pieces] == ["london", "anna"]


@MARKINGS
def test_markers_are_not_cut_either(marking):
    words = "Anna visited London. " * 5
    example = SpansExample(id="1", text=words, spans=(Span(0, 4), Span(len(words) - 8, len(words) - 2)))
    tokenizer = tiny_bert_tokenizer()
    text = tokenizer.decode(SpanClassification(marking=marking).encode(example, tokenizer, 12).rows[0].input_ids)
    if marking == "pooled":
        assert "anna" in text
        assert "london" in text
    else:
        assert "* anna *" in text
        assert "# london #" in text


def test_where_one_stretch_is_inside_the_other_its_tokens_are_the_inner_ones():
    example = SpansExample(id="1", text="their mothers came", spans=(Span(0, 13), Span(0, 5)))
    (row,) = SpanClassification().encode(example, tiny_gpt2_tokenizer(), 64).rows
    tokenizer = tiny_gpt2_tokenizer()
    said = [
        tokenizer.decode([i for i, m in zip(row.input_ids, row.marks, strict=True) if m == n]).strip() for n in (1, 2)
    ]
    assert said == ["mothers", "their"]


def test_a_stretch_without_a_token_is_refused():
    example = SpansExample(id="w9", text="a \u200b b", spans=(Span(0, 1), Span(2, 3)))
    with pytest.raises(DataError, match="example w9: stretch 2 has no token of its own"):
        SpanClassification().encode(example, tiny_bert_tokenizer(), 64)


@pytest.mark.parametrize(
    ("settings", "kind", "width"),
    [
        ({}, MarkedHead, 24),
        ({"columns": {"start": ["s"], "end": ["e"]}}, MarkedHead, 16),
        ({"marking": "both"}, MarkedHead, 24),
        ({"marking": "marked"}, PooledHead, 8),
    ],
)
def test_the_head_reads_what_the_marking_gives(settings, kind, width):
    head = SpanClassification(labels=("no", "yes"), pooling="first", **settings).build_head(8)
    assert type(head) is kind
    assert head.pooling == "first"
    assert head.layers[-1].weight.shape == (2, width)


def test_the_majority_stands_beside_the_accuracy():
    task = SpanClassification(labels=("false", "true"))
    found = [SpansExample(id="1", text="x", spans=(), label=label) for label in ("true", "true", "false")]
    predictions = [task.decode(example, (), [torch.tensor([0.0, 1.0])]) for example in found]
    scores = task.score(found, predictions)
    assert scores.main_value == scores.values["most_frequent_share"] == pytest.approx(2 / 3)
