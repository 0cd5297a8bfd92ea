"""Classification in words: formats, what counts as right, and what greedy search has to do with it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

import foreword as fw
from foreword.data.batching import WRITTEN
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.errors import BackboneError, DataError, TaskError
from foreword.inference.forward import predict_encoded
from foreword.metrics.likelihood import Likelihood
from foreword.tasks import Written
from foreword.tasks.text_to_text import WordsPrediction
from tiny import tiny_backbone
from tiny_writers import METHODS, encoded, train, writer

PAIRS = {"columns": {"pair": "pair"}, "template": "sentence1: {text} sentence2: {pair}"}
WORDS = {"0": "not_entailment", "1": "entailment"}
DATA = [
    {"text": f"{who} visited {where}", "label": label}
    for who in ("Anna", "Peter", "Nobody")
    for where, label in (("London", "yes"), ("Germany", "no"))
]
TASK = fw.TextToText(template="sentence: {text}", verbalizer={"no": "very bad", "yes": "good"})


def examples(task, *items):
    return task.read([Record(item, "tiny", number) for number, item in enumerate(items)], labelled=True)


def test_the_formats_of_t5():
    backbone = writer("t5")
    task = fw.TextToText(**PAIRS, labels=("0", "1"), verbalizer=WORDS)
    found = encoded(task, backbone, [{"text": " Anna left. ", "pair": "Anna is gone.", "label": 0}])
    tokenizer = backbone.tokenizer
    assert found.rows[0].input_ids == tokenizer("sentence1: Anna left. sentence2: Anna is gone.")["input_ids"]
    assert found.rows[0].targets[WRITTEN] == tokenizer("not_entailment")["input_ids"]


def test_the_longer_of_a_pair_loses_its_end_first_and_the_template_nothing():
    backbone = writer("t5")
    long = {"text": "Anna left. " * 20, "pair": "Peter left.", "label": "1"}
    found = encoded(fw.TextToText(**PAIRS), backbone, [long], 40)
    text = backbone.tokenizer.decode(found.rows[0].input_ids, skip_special_tokens=True)
    assert text.startswith("sentence1: Anna left.")
    assert text.endswith("sentence2: Peter left.")
    assert len(found.rows[0]) == 40
    assert found.notes == {"truncated": 1}


def test_labels_are_found_and_unknown_ones_refused():
    task = fw.TextToText()
    found = task.with_labels_from(examples(task, *({"text": "a", "label": label} for label in (10, 9, True, "b"))))
    assert found.labels == ("9", "10", "b", "true")
    records = [Record({"text": "a", "label": "c"}, "dev.jsonl", 3)]
    with pytest.raises(DataError, match=r"dev.jsonl:3: field 'label': label 'c' does not occur in the training data"):
        found.check_labels(records, found.read(records, labelled=True))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"template": "sentence1: {text} sentence2: {pair}"}, "need one another"),
        ({"columns": {"pair": "b"}}, "need one another"),
        ({"template": "sentence:"}, "expected {text}"),
        ({"template": "{mask} {text}"}, "'{mask}' is not one of {text}, {pair}"),
        ({"labels": ["a", "b"], "verbalizer": {"c": "x"}}, "'c' is no label"),
        ({"verbalizer": {"a": "x", "b": "x"}}, "labels 'a' and 'b' have the same words, 'x'"),
        ({"labels": ["a", "b"], "verbalizer": {"a": "b"}}, "labels 'a' and 'b' have the same words"),
        ({"verbalizer": {"a": " x"}}, "without white space around it"),
        ({"max_new_tokens": 0}, "greater than 0"),
        ({"decoding": {}}, "Extra inputs"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(ValidationError, match=says):
        fw.TextToText(**settings)


def test_words_of_labels_found_later_must_differ_too():
    task = fw.TextToText(verbalizer={"a": "b"})
    with pytest.raises(TaskError, match=r"task.verbalizer: labels 'a' and 'b' have the same words"):
        task.with_labels_from(examples(task, {"text": "x", "label": "a"}, {"text": "x", "label": "b"}))


def test_what_is_no_label_to_the_letter_is_invalid_and_wrong():
    task = TASK.model_copy(update={"labels": ("no", "yes")})
    found = examples(task, *({"text": "x", "label": label} for label in ("yes", "yes", "no", "no")))
    blank = WordsPrediction(Likelihood(-2.0, 2, 1, 1, 0))
    texts = ("good", "Good", "very bad", "good")
    predictions = [
        task.with_text(example, blank, Written(text, True)) for example, text in zip(found, texts, strict=True)
    ]
    assert [prediction.label for prediction in predictions] == ["yes", None, "no", "yes"]
    scores = task.score(found, predictions)
    assert scores.main == "accuracy"
    assert scores.values["accuracy"] == 2 / 4
    # yes: one found of two, two told; no: one of two, one told. What is no label is in no class.
    assert scores.values["macro_f1"] == pytest.approx((2 * 0.5 * 0.5 + 2 * 1 * 0.5 / 1.5) / 2)
    assert scores.counts["invalid"] == 1
    assert scores.counts["predicted/yes"] == 2
    assert task.to_json(found[1], predictions[1]) == {"id": "1", "label": None, "text": "Good"}
    assert task.answer_key(predictions[0]) == "good"


@pytest.mark.parametrize("family", ["gpt2", "t5"])
@pytest.mark.parametrize("method", ["prefix-tuning", "prompt-tuning", "fine-tuning"])
def test_what_selects_weights_is_the_accuracy_of_what_is_written(family, method):
    """The likeliest token at every place is what greedy search takes, as long as all before was right."""
    run = train(family, method, TASK, DATA, epochs=4)
    task, found = run.outcome.task, encoded(run.outcome.task, run.model.backbone, DATA)
    quick = task.score(found.examples, predict_encoded(run.model, task, found, selecting=True))
    whole = task.score(found.examples, predict_encoded(run.model, task, found))
    assert quick.main == "exact_match"
    assert quick.values["exact_match"] == whole.values["accuracy"]
    assert {entry["main"] for entry in run.outcome.progress.evaluations} == {"exact_match"}


def test_it_learns_and_an_artifact_answers_the_same(tmp_path):
    run = train("t5", "fine-tuning", TASK, DATA, epochs=12)
    assert run.outcome.scores.values["accuracy"] == 1.0
    assert run.outcome.scores.counts["invalid"] == 0
    run.save(tmp_path / "artifact")
    predictor = fw.load(tmp_path / "artifact", writer("t5"))
    answers = predictor.predict([{"text": item["text"]} for item in DATA])
    assert [answer["label"] for answer in answers] == [item["label"] for item in DATA]
    assert [answer["text"] for answer in answers][:2] == ["good", "very bad"]
    assert predictor.evaluate(Source.of(DATA)).to_json() == run.manifest().metrics.model_dump()


def test_weights_may_be_selected_by_likelihood():
    run = train("gpt2", "ptuning-v2", TASK.model_copy(update={"select_by": "likelihood"}), DATA)
    assert {entry["main"] for entry in run.outcome.progress.evaluations} == {"likelihood"}
    assert run.outcome.scores.main == "accuracy"


def test_encoders_are_refused():
    with pytest.raises(BackboneError, match="answers of task 'text-to-text' are written"):
        fw.train(tiny_backbone("bert"), METHODS["ptuning-v2"], TASK, train=DATA, dev=DATA, progress=False)
