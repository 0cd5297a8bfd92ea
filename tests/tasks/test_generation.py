"""Generation as a task: rows as a decoder or an encoder-decoder reads them, and losses as transformers has them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.data.batching import IGNORED, WRITTEN, collate
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.errors import BackboneError, DataError, MethodError, TaskError
from foreword.inference.forward import predict_encoded, row_logits
from foreword.metrics.generation import text_scores
from foreword.model import PromptedModel
from tiny import tiny_backbone
from tiny_writers import DATA, EXAMPLE, FAMILIES, METHODS, SHORT, encoded, train, writer

# --- rows ----------------------------------------------------------------------------------------


def test_a_decoder_reads_what_li_and_liang_wrote():
    """`" {src} {BOS} {tgt} {EOS}"`, of which the target and what closes it are learned."""
    tokenizer = writer("gpt2").tokenizer
    task = fw.Generation(template=" {source}").suited_to(writer("gpt2"))
    (row,) = task.encode(EXAMPLE, tokenizer, 128).rows
    bos = tokenizer.bos_token
    whole = tokenizer(f" Anna visited London {bos} It is good.")["input_ids"]
    end = whole.index(tokenizer.bos_token_id) + 1
    assert row.input_ids == whole[:end]
    assert row.targets[WRITTEN] == [*whole[end:], tokenizer.eos_token_id]


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_reads_them_apart(family):
    backbone = writer(family)
    (row,) = SHORT.suited_to(backbone).encode(EXAMPLE, backbone.tokenizer, 128).rows
    assert row.input_ids == backbone.tokenizer("Anna visited London")["input_ids"]
    assert row.targets[WRITTEN] == backbone.tokenizer("It is good.")["input_ids"]
    assert row.targets[WRITTEN][-1] == backbone.tokenizer.eos_token_id


def test_a_separator_of_ones_own():
    backbone = writer("gpt2")
    task = fw.Generation(separator="\nIn words: ").suited_to(backbone)
    (row,) = task.encode(EXAMPLE, backbone.tokenizer, 128).rows
    text = backbone.tokenizer.decode(row.input_ids + row.targets[WRITTEN][:-1])
    assert text == "Anna visited London\nIn words: It is good."
    assert backbone.tokenizer.decode(row.input_ids) == "Anna visited London\nIn words:"


def test_what_is_given_is_the_same_with_a_target_and_without():
    for family in FAMILIES:
        backbone = writer(family)
        task = SHORT.suited_to(backbone)
        with_target, without = (
            task.encode(one, backbone.tokenizer, 128).rows for one in (EXAMPLE, replace(EXAMPLE, targets=None))
        )
        assert with_target[0].input_ids == without[0].input_ids
        assert without[0].targets == {}


def test_the_separator_where_rows_open_with_a_token_or_none_is_there():
    """A line break: the opening token would say that a new text begins, or is not there."""
    backbone = writer("bart")  # its tokenizer puts <s> first, as that of Llama does
    backbone.kind = "decoder"
    task = SHORT.suited_to(backbone)
    assert task.separator == "\n"
    (row,) = task.encode(EXAMPLE, backbone.tokenizer, 128).rows
    assert backbone.tokenizer.decode(row.input_ids) == "<s>Anna visited London\n"  # without what closes a row


def test_a_row_for_every_target():
    backbone = writer("t5")
    found = encoded(SHORT, backbone)
    assert len(found.rows) == 12
    assert [list(rows) for rows in found.rows_of][:2] == [[0, 1], [2, 3]]
    assert found.rows[0].input_ids == found.rows[1].input_ids
    assert found.rows[0].targets != found.rows[1].targets


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_source_loses_its_end_and_a_long_target_keeps_its_close(family):
    backbone = writer(family)
    long = replace(EXAMPLE, source="Anna visited London. " * 30, targets=("It is good. " * 30, "It is."))
    task = SHORT.suited_to(backbone)
    encoding = task.encode(long, backbone.tokenizer, 40)
    assert encoding.note == "truncated and with a target cut to 12 tokens"
    cut, whole = (row.targets[WRITTEN] for row in encoding.rows)
    assert len(cut) == 12 > len(whole)
    assert cut[-1] == whole[-1] == backbone.tokenizer.eos_token_id
    given = encoding.rows[0].input_ids
    assert len(given) == (40 if backbone.kind == "encoder-decoder" else 40 - 12)
    start = backbone.tokenizer("Anna visited London")["input_ids"][:3]
    assert given[:3] == start
    # What is left is what a decoder, or the encoder, has room for.
    model = PromptedModel(backbone, fw.PTuningV2(prompt_length=2), task.build_head(32, backbone))
    model.write(collate(encoding.rows, [0], 0), max_new_tokens=12)


@pytest.mark.parametrize(
    ("task", "family", "says"),
    [
        (fw.Generation(separator=" => "), "t5", "task.separator: is for decoders"),
        (fw.Generation(separator="Anna vis"), "gpt2", "task.separator: the tokenizer takes the end of"),
        (fw.Generation(), "gpt2", "task.template: leaves no room to the text"),
    ],
)
def test_what_does_not_suit_a_backbone(task, family, says):
    example = {"source": "Anna", "target": "ited London"}
    with pytest.raises(TaskError, match=says):
        encoded(task, writer(family), [example], 100 if "room" in says else None)


def test_models_that_write_nothing_are_refused():
    with pytest.raises(BackboneError, match=r"answers of task 'generation' are written.*gpt2"):
        SHORT.build_head(32, tiny_backbone("bert"))
    with pytest.raises(BackboneError, match="language_model = true"):
        SHORT.build_head(32, tiny_backbone("gpt2"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"template": "no field"}, "expected {source}"),
        ({"template": "{source} {text}"}, "'{text}' is not one of {source}"),
        ({"separator": "  "}, "something else than spaces"),
        ({"metrics": []}, "one at least"),
        ({"metrics": ["nist", "bleu"]}, "'nist' has no fixed scale"),
        ({"metrics": ["blue"]}, "'bleu'"),
        ({"decoding": {"num_beams": 0}}, "greater than 0"),
        ({"decoding": {"beams": 2}}, "Extra inputs"),
        ({"loss_over": "sentences"}, "'texts'"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(ValidationError, match=says):
        fw.Generation(**settings)


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"target": "x"}, "field 'source': missing"),
        ({"source": " ", "target": "x"}, "field 'source': is empty"),
        ({"source": "a"}, "field 'target': missing"),
        ({"source": "a", "target": []}, "field 'target': expected a text, or a list"),
        ({"source": "a", "target": ["b", ""]}, "field 'target': expected a text, or a list"),
        ({"source": "a", "target": 3}, "field 'target': expected a text"),
    ],
)
def test_records_that_are_wrong(item, says):
    with pytest.raises(DataError, match=says):
        SHORT.read([Record(item, "x.jsonl", 7)], labelled=True)


# --- losses --------------------------------------------------------------------------------------


def plain(backbone, rows):
    """The loss of transformers itself, of each row alone: mean nats of its written tokens."""
    kind = AutoModelForCausalLM if backbone.kind == "decoder" else AutoModelForSeq2SeqLM
    model = kind.from_pretrained(backbone.name, attn_implementation="eager").eval()
    losses = []
    for row in rows:
        written = torch.tensor(row.targets[WRITTEN])
        given = torch.tensor(row.input_ids)
        if backbone.kind == "decoder":
            labels = torch.cat([torch.full_like(given, IGNORED), written])
            losses.append(model(input_ids=torch.cat([given, written])[None], labels=labels[None]).loss.item())
        else:
            losses.append(model(input_ids=given[None], labels=written[None]).loss.item())
    return torch.tensor(losses), torch.tensor([len(row.targets[WRITTEN]) for row in rows])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("over", ["tokens", "texts"])
def test_the_loss_is_that_of_transformers(family, over):
    backbone, task = writer(family), SHORT.model_copy(update={"loss_over": over})
    rows = encoded(task, backbone, [*DATA, {"source": "it", "target": "a boring book and this wonderful company"}]).rows
    model = PromptedModel(backbone, fw.FineTuning(), task.build_head(32, backbone)).eval()
    batch = collate(rows, range(len(rows)), backbone.tokenizer.pad_token_id)
    losses, tokens = plain(backbone, rows)
    expected = (losses * tokens).sum() / (tokens.sum() if over == "tokens" else len(rows))
    torch.testing.assert_close(task.loss(model(batch), batch.targets), expected, rtol=1e-5, atol=1e-5)
    assert task.weight(batch.targets) == (tokens.sum() if over == "tokens" else len(rows))


@pytest.mark.parametrize("over", ["tokens", "texts"])
def test_parts_of_a_step_make_no_difference(over):
    task = SHORT.model_copy(update={"loss_over": over})
    runs = [
        train("gpt2", "ptuning-v2", task, epochs=2, batch_size=batch, accumulation_steps=parts, max_grad_norm=0)
        for batch, parts in ((12, 1), (3, 4))
    ]
    whole, parts = (run.outcome.progress.evaluations[-1]["train_loss"] for run in runs)
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_likelihood_is_that_of_transformers(family):
    backbone = writer(family)
    found = encoded(SHORT, backbone)
    model = PromptedModel(backbone, fw.FineTuning(), SHORT.build_head(32, backbone))
    for batch_size in (1, 5, 32):
        predictions = predict_encoded(model, SHORT, found, batch_size=batch_size, selecting=True)
        scores = SHORT.score(found.examples, predictions)
        losses, tokens = plain(backbone, found.rows)
        mean = float((losses * tokens).sum() / tokens.sum())
        assert scores.measures["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
        assert scores.values["likelihood"] == pytest.approx(math.exp(-mean), rel=1e-4)
        assert (scores.main, scores.counts) == ("likelihood", {"texts": 12, "tokens": int(tokens.sum())})
        assert all(prediction.written is None for prediction in predictions)


# --- training and writing ------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls_with_every_method(family, method):
    run = train(family, method)
    losses = [entry["train_loss"] for entry in run.outcome.progress.evaluations]
    assert losses[-1] < losses[0]
    assert run.outcome.scores.main == "bleu"
    assert run.outcome.scores.counts["items"] == 6
    assert run.outcome.scores.counts["references"] == 12
    assert run.model.state().keys() == {n for n, _ in run.model.trainable()}  # the head is the model's own: no weights


def test_it_learns_to_write_and_an_artifact_writes_the_same(tmp_path):
    data = [{"source": item["source"], "target": item["target"][0]} for item in DATA]
    task = fw.Generation(decoding={"num_beams": 3, "max_new_tokens": 16})
    run = train("t5", "fine-tuning", task, data, epochs=25)
    assert run.outcome.scores.values["bleu"] > 0.9
    assert run.outcome.scores.counts["unfinished"] == 0
    run.save(tmp_path / "artifact")
    predictor = fw.load(tmp_path / "artifact", writer("t5"))
    answers = predictor.predict([{"source": item["source"]} for item in data])
    assert [answer["text"] for answer in answers] == [one.written.text for one in run.outcome.predictions]
    again = predictor.evaluate(Source.of(data)).to_json()
    assert again == run.manifest().metrics.model_dump()
    texts = [answer["text"] for answer in answers]
    scores = text_scores([[item["target"]] for item in data], texts, task.metrics)
    assert {**again["values"], **scores.values} == again["values"]


@pytest.mark.parametrize("family", ["gpt2", "bart"])
def test_a_prompt_comes_back_from_its_artifact(family, tmp_path):
    run = train(family, "prefix-tuning", epochs=1)
    run.save(tmp_path / "artifact")
    artifact = load_artifact(tmp_path / "artifact")
    assert artifact.head == {}
    predictor = fw.load(tmp_path / "artifact", writer(family))
    rows = encoded(SHORT, predictor.backbone).rows
    for ours, theirs in zip(row_logits(run.model, rows), row_logits(predictor.model, rows), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    texts = [answer["text"] for answer in predictor.predict(DATA)]
    assert texts == [one.written.text for one in run.outcome.predictions]


def test_weights_are_selected_by_likelihood_or_by_a_metric():
    by_likelihood = train("gpt2", "ptuning-v2", epochs=2)
    assert {entry["main"] for entry in by_likelihood.outcome.progress.evaluations} == {"likelihood"}
    assert all("bleu" not in entry for entry in by_likelihood.outcome.progress.evaluations)
    best = max(entry["likelihood"] for entry in by_likelihood.outcome.progress.evaluations)
    assert by_likelihood.outcome.scores.values["likelihood"] == pytest.approx(best)
    task = SHORT.model_copy(update={"select_by": "metric", "metrics": ("chrf",)})
    by_metric = train("gpt2", "ptuning-v2", task, epochs=2)
    assert {entry["main"] for entry in by_metric.outcome.progress.evaluations} == {"chrf"}
    assert by_metric.outcome.scores.main == "chrf"


def test_a_mixture_of_prompts_cannot_write():
    mixture = fw.MixtureOfPrompts(of=fw.PTuningV2(prompt_length=2), count=2)
    with pytest.raises(MethodError, match="no prompt to generate with"):
        fw.train(writer("gpt2"), mixture, SHORT, train=DATA, dev=DATA, progress=False)
