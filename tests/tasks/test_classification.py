from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from foreword.data.examples import TextExample
from foreword.data.records import Record
from foreword.errors import DataError, TaskError
from foreword.tasks import Classification
from tiny import tiny_bert_tokenizer, tiny_roberta_tokenizer

TOKENIZERS = pytest.mark.parametrize("tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer])
PAIR = Classification(columns={"text": "premise", "pair": "hypothesis"}, labels=("no", "yes"))


def records(*fields):
    return [Record(each, "data.jsonl", number) for number, each in enumerate(fields, 1)]


def labels_of(*values):
    task = Classification()
    examples = task.read(records(*({"text": "x", "label": value} for value in values)), labelled=True)
    return [e.label for e in examples], task.with_labels_from(examples).labels


class TestLabels:
    def test_texts_are_sorted(self):
        assert labels_of("pos", "neg", "pos") == (["pos", "neg", "pos"], ("neg", "pos"))

    def test_whole_numbers_are_sorted_by_value(self):
        assert labels_of(10, 9, -1, 0) == (["10", "9", "-1", "0"], ("-1", "0", "9", "10"))

    def test_truth_values(self):
        assert labels_of(True, False) == (["true", "false"], ("false", "true"))

    def test_numbers_come_before_words(self):
        assert labels_of("x", "2", "11")[1] == ("2", "11", "x")

    def test_a_superscript_is_no_number(self):
        assert labels_of("\u00b2", "1")[1] == ("1", "\u00b2")

    def test_given_labels_are_kept_in_their_order(self):
        task = Classification(labels=("b", "a"))
        assert task.with_labels_from(task.read(records({"text": "x", "label": "a"}), labelled=True)) is task

    @pytest.mark.parametrize("value", [None, 1.5, "", "  ", ["a"]])
    def test_what_is_no_label(self, value):
        with pytest.raises(DataError, match=r"data\.jsonl:1: field 'label': expected a label"):
            Classification().read(records({"text": "x", "label": value}), labelled=True)

    def test_a_label_may_be_missing_only_in_prediction(self):
        unlabelled = records({"text": "x"})
        assert Classification().read(unlabelled, labelled=False)[0].label is None
        with pytest.raises(DataError, match="field 'label': missing"):
            Classification().read(unlabelled, labelled=True)

    def test_an_unseen_label_is_refused_where_it_stands(self):
        task = Classification(labels=("neg", "pos"))
        dev = records(*({"text": "x", "label": label} for label in ("pos", "mixed", "odd")))
        with pytest.raises(DataError) as caught:
            task.check_labels(dev, task.read(dev, labelled=True))
        assert str(caught.value) == (
            "data.jsonl:2: field 'label': label 'mixed' does not occur in the training data (nor do 1 others). "
            "Known labels: neg, pos"
        )
        task.check_labels(dev[:1], task.read(dev[:1], labelled=True))


class TestEncode:
    @TOKENIZERS
    def test_a_text_as_the_tokenizer_gives_it_with_the_number_of_its_label(self, tokenizer):
        task = Classification(labels=("neg", "pos"))
        encoding = task.encode(TextExample(id="1", text="It has never seen.", label="pos"), tokenizer(), 128)
        (row,) = encoding.rows
        assert row.input_ids == tokenizer()("It has never seen.")["input_ids"]
        assert row.targets == {"label": 1}
        assert encoding.note is None

    @TOKENIZERS
    def test_a_pair_stands_in_one_row(self, tokenizer):
        example = TextExample(id="1", text="It", pair="a movie", label="no")
        (row,) = PAIR.encode(example, tokenizer(), 128).rows
        expected = tokenizer()("It", "a movie")
        assert row.input_ids == expected["input_ids"]
        assert row.token_type_ids == expected.get("token_type_ids")
        if tokenizer is tiny_bert_tokenizer:
            assert set(row.token_type_ids) == {0, 1}

    @TOKENIZERS
    def test_a_long_text_loses_its_end_and_that_is_noted(self, tokenizer):
        text = "Anna visited London. " * 20
        encoding = Classification().encode(TextExample(id="1", text=text), tokenizer(), 16)
        (row,), whole = encoding.rows, tokenizer()(text)["input_ids"]
        assert row.input_ids == [*whole[:15], whole[-1]]
        assert encoding.note == "truncated"

    @TOKENIZERS
    @pytest.mark.parametrize("long", [0, 1])
    def test_the_longer_of_a_pair_is_cut(self, tokenizer, long):
        texts = ["It", "It"]
        texts[long] = "Anna visited London. " * 20
        encoding = PAIR.encode(TextExample(id="1", text=texts[0], pair=texts[1]), tokenizer(), 16)
        (row,), short = encoding.rows, tokenizer()("It", add_special_tokens=False)["input_ids"]
        assert len(row.input_ids) == 16
        kept = row.input_ids[-1 - len(short) : -1] if long == 0 else row.input_ids[1 : 1 + len(short)]
        assert kept == short
        assert encoding.note == "truncated"

    @TOKENIZERS
    def test_a_text_that_just_fits_is_not_noted(self, tokenizer):
        text = "Anna visited London."
        length = len(tokenizer()(text)["input_ids"])
        assert Classification().encode(TextExample(id="1", text=text), tokenizer(), length).note is None
        assert Classification().encode(TextExample(id="1", text=text), tokenizer(), length - 1).note == "truncated"

    @pytest.mark.parametrize("label", [None, "unknown"])
    def test_without_a_known_label_there_is_no_target(self, label):
        task = Classification(labels=("a", "b"))
        example = TextExample(id="1", text="It", label=label)
        assert task.encode(example, tiny_bert_tokenizer(), 16).rows[0].targets == {}


def test_the_loss_is_the_mean_negative_log_probability():
    logits = [[1.0, 2.0, -1.0], [0.5, 0.0, 0.0]]
    gold = [1, 2]
    by_hand = -sum(
        math.log(math.exp(row[label]) / sum(map(math.exp, row))) for row, label in zip(logits, gold, strict=True)
    )
    loss = Classification(labels=("a", "b", "c")).loss(torch.tensor(logits), {"label": torch.tensor(gold)})
    assert loss.item() == pytest.approx(by_hand / 2, rel=1e-6)


def test_decode_gives_the_most_probable_label_and_all_probabilities():
    task = Classification(labels=("a", "b", "c"))
    example = TextExample(id="7", text="It")
    prediction = task.decode(example, (), [torch.tensor([0.0, math.log(3), 0.0])])
    assert prediction.label == task.answer_key(prediction) == "b"
    assert prediction.probabilities == pytest.approx({"a": 0.2, "b": 0.6, "c": 0.2})
    assert task.to_json(example, prediction) == {
        "id": "7",
        "label": "b",
        "probability": 0.6,
        "probabilities": {"a": 0.2, "b": 0.6, "c": 0.2},
    }


@pytest.mark.parametrize(
    ("settings", "shape"),
    [({}, {(3, 8)}), ({"hidden_layer": True}, {(3, 8), (8, 8)}), ({"pooling": "first"}, {(3, 8)})],
)
def test_the_head_has_one_output_per_label(settings, shape):
    head = Classification(labels=("a", "b", "c"), **settings).build_head(8)
    assert {tuple(p.shape) for p in head.parameters() if p.dim() == 2} == shape


def test_the_head_reads_real_tokens_only():
    hidden = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    changed = torch.where(mask.bool()[:, :, None], hidden, 99.0)
    mean = Classification(labels=("a", "b")).build_head(8).eval()
    assert torch.equal(mean(hidden, mask), mean(changed, mask))
    torch.testing.assert_close(mean(hidden, mask)[:1], mean(hidden[:1, :2], mask[:1, :2]))
    first = Classification(labels=("a", "b"), pooling="first").build_head(8).eval()
    assert torch.equal(first(hidden, mask), first(hidden[:, :1], mask[:, :1]))


def test_score_counts_right_labels():
    task = Classification(labels=("a", "b"))
    examples = [TextExample(id=str(i), text="x", label=label) for i, label in enumerate("aabb")]
    predictions = [
        task.decode(e, (), [torch.tensor(scores)]) for e, scores in zip(examples, [[1.0, 0]] * 4, strict=True)
    ]
    scores = task.score(examples, predictions)
    assert scores.values["accuracy"] == 0.5


class TestPositive:
    def test_adds_its_f1_and_may_be_selected_by(self):
        task = Classification(labels=("0", "1"), positive="1", main="accuracy_and_f1")
        examples = [TextExample(id=str(i), text="x", label=label) for i, label in enumerate("1100")]
        predictions = [
            task.decode(e, (), [torch.tensor([0.0, up])]) for e, up in zip(examples, (1, 1, 1, -1), strict=True)
        ]
        scores = task.score(examples, predictions)
        assert scores.values["f1"] == pytest.approx(0.8)
        assert (scores.main, scores.main_value) == ("accuracy_and_f1", pytest.approx((0.75 + 0.8) / 2))
        plain = Classification(labels=("0", "1")).score(examples, predictions)
        assert plain.main == "accuracy"
        assert "f1" not in plain.values

    def test_must_be_a_label(self):
        with pytest.raises(ValidationError, match=r"'2' is no label\. Labels: 0, 1"):
            Classification(labels=("0", "1"), positive="2")
        with pytest.raises(TaskError, match=r"task\.positive: '2' is no label. Labels: 0, 1"):
            Classification(positive="2").with_labels_from([TextExample(id="", text="x", label=label) for label in "01"])

    @pytest.mark.parametrize("main", ["f1", "accuracy_and_f1"])
    def test_is_needed_for_its_f1(self, main):
        with pytest.raises(ValidationError, match=r"needs task\.positive"):
            Classification(main=main)
