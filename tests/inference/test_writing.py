"""Texts are what the model would write by hand, whatever batch a row is in."""

from __future__ import annotations

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.backbones import continuation_logits
from foreword.data.batching import collate
from foreword.inference.forward import predict_encoded
from foreword.injection import Injection
from tiny_writers import DATA, FAMILIES, METHODS, SHORT, encoded, train, writer


def greedy(model, row, count):
    """One row, one token after the other, each by a pass over all that is there."""
    written: list[int] = []
    injection = None if model.prompt is None else Injection([model.prompt()])
    ids, backbone = torch.tensor([row.input_ids]), model.backbone
    for _ in range(count):
        so_far = torch.tensor([[*written, 0]])
        with torch.no_grad(), model.adapted():
            logits = continuation_logits(backbone, ids, torch.ones_like(ids), so_far, injection)
        written.append(int(logits[0, -1].argmax()))
        if written[-1] == backbone.tokenizer.eos_token_id:
            break
    return written


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["prefix-tuning", "prompt-tuning", "lora"])
def test_texts_are_those_of_greedy_search_by_hand(family, method):
    run = train(family, method, epochs=1)
    found = encoded(SHORT, run.model.backbone)
    tokenizer = run.model.backbone.tokenizer
    texts = [one.written for one in predict_encoded(run.model, SHORT, found, batch_size=4)]
    for rows, text in zip(found.rows_of, texts, strict=True):
        ids = greedy(run.model, found.rows[rows[0]], 12)
        assert text.text == tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert text.finished == (ids[-1] == tokenizer.eos_token_id)


def test_what_the_model_says_elsewhere_of_searches_does_not_count():
    """A published model may come with sampling, penalties or another length."""
    run = train("gpt2", "ptuning-v2", epochs=1)
    found = encoded(SHORT, run.model.backbone)
    before = [one.written for one in predict_encoded(run.model, SHORT, found)]
    config = run.model.backbone.model.generation_config
    config.do_sample, config.num_beams, config.repetition_penalty, config.no_repeat_ngram_size = True, 4, 3.0, 1
    config.min_new_tokens, config.eos_token_id = 9, 7
    assert [one.written for one in predict_encoded(run.model, SHORT, found)] == before


def test_search_settings_are_followed():
    run = train("gpt2", "ptuning-v2", epochs=1)

    def lengths(**decoding):
        task = fw.Generation(decoding={"max_new_tokens": 9, "num_beams": 1, **decoding})
        found = encoded(task, run.model.backbone)
        settings = task.search | {
            "max_new_tokens": task.longest,
            "eos_token_id": run.model.backbone.tokenizer.eos_token_id,
        }
        return run.model.write(collate(found.rows, [0], 0), **settings)[0].tolist()

    assert len(lengths()) <= 9
    assert len(lengths(min_new_tokens=9)) == 9
    once = lengths(no_repeat_ngram_size=1, min_new_tokens=9)
    assert len(set(once)) == 9


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_mixed_batch_writes_what_each_task_alone_writes(family, tmp_path):
    beams = fw.Generation(decoding={"max_new_tokens": 8, "num_beams": 3}, template="say: {source}")
    kinds = {
        "prefix": train(family, "prefix-tuning", epochs=1),
        "vectors": train(family, "prompt-tuning", epochs=1),
        "beams": train(family, "ptuning-v2", beams, epochs=1),
        "labels": fw.train(
            writer(family),
            METHODS["ptuning-v2"],
            fw.Classification(pooling="last"),
            train=[{"text": item["source"], "label": str(n % 2)} for n, item in enumerate(DATA)],
            dev=[{"text": "it", "label": "0"}],
            progress=False,
            epochs=1,
        ),
    }
    for name, run in kinds.items():
        run.save(tmp_path / name)
    artifacts = {name: load_artifact(tmp_path / name) for name in kinds}
    inputs = [(name, {"source": item["source"], "text": item["source"]}) for item in DATA for name in kinds]
    mixed = fw.Engine(writer(family), artifacts).predict(inputs)
    assert [answer["task"] for answer in mixed] == [name for name, _ in inputs]
    for name in kinds:
        alone = fw.load(tmp_path / name, writer(family)).predict([item for owner, item in inputs if owner == name])
        key = "label" if name == "labels" else "text"
        assert [answer[key] for answer in mixed if answer["task"] == name] == [answer[key] for answer in alone]
    assert len({answer["text"] for answer in mixed if "text" in answer}) > 1
