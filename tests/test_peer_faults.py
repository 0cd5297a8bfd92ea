"""The faults measured in the best-known library for prompts, one by one, as things that hold here.

Numbers are those of the list of faults; each has one test of that number. What can be computed by
transformers alone is: rows put together by hand, without padding, on the plain model (`plain.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import foreword as fw
from foreword.artifacts.format import load_artifact, load_unfolded
from foreword.artifacts.tensors import prompt_names
from foreword.backbones import FAMILIES
from foreword.backbones.generation import continuation_logits, generate
from foreword.data.batching import IGNORED, collate
from foreword.errors import BackboneError, ForewordError
from foreword.inference.forward import row_logits
from foreword.injection import Injection, Prompt, Site, SiteShape
from foreword.methods import METHODS, FoldedPrompt, PTuningV2, fold
from foreword.methods.composition import average, stack
from foreword.model import PromptedModel
from plain import TEXTS, batch_of, plain_model, row_of, run_by_hand
from tiny import tiny_backbone
from tiny_artifacts import records, tiny_artifact, train_tiny
from tiny_runs import TASKS, Recorder, tiny_data, tiny_trainer

INPUT_METHODS = {
    "prompt-tuning": fw.PromptTuning(prompt_length=4),
    "p-tuning": fw.PTuning(template=(4, "text")),
    "layer-deltas": fw.LayerDeltas(prompt_length=4),
}
PROMPT_METHODS = {"ptuning-v2": PTuningV2(prompt_length=4, dropout=0), **INPUT_METHODS}
ENCODERS = [name for name in sorted(FAMILIES) if FAMILIES[name].kind == "encoder"]
DECODERS = ["gpt2", "llama"]


def model_on(backbone, method, task="classification", seed=0):
    """A model whose prompt is strong enough to show, and whose head reads the last layer, as `by_hand` does."""
    torch.manual_seed(seed)
    task = TASKS[task] if isinstance(task, str) else task
    task = task.model_copy(update={"layers": "last"})
    model = PromptedModel(backbone, method, task.build_head(backbone.hidden_size, backbone), labels=task.labels or ())
    with torch.no_grad():
        for parameter in () if model.prompt is None else model.prompt.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def rows_and_batch(task, backbone, count=6):
    """Labelled rows of a task, and the batch of all of them."""
    rows = tiny_data(TASKS[task], backbone, count).rows
    return rows, collate(rows, range(len(rows)), backbone.tokenizer.pad_token_id)


def by_hand(model, row):
    """Hidden states of one encoded row behind a front prompt: no padding, plain transformers."""
    inputs = {"input_ids": row.input_ids} | ({"token_type_ids": row.token_type_ids} if row.token_type_ids else {})
    return run_by_hand(model.backbone, inputs, [(0, vector) for vector in model.prompt().inputs.vectors])


def close(found, expected, tolerance=1e-4):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_fault_01_token_classification_with_input_prompts_has_unshifted_labels(family):
    """One row of logits per token of the text, and the loss of every tag at its own token."""
    model = model_on(tiny_backbone(family), INPUT_METHODS["prompt-tuning"], "ner")
    rows, batch = rows_and_batch("ner", model.backbone)
    with torch.no_grad():
        logits = model(batch)
        loss = TASKS["ner"].loss(logits, batch.targets)
        expected = [model.head.linear(by_hand(model, row)) for row in rows]
    assert logits.shape[:2] == batch.input_ids.shape
    tags = [torch.tensor(row.targets["tags"]) for row in rows]
    assert all(len(one) == len(tag) for one, tag in zip(expected, tags, strict=True))
    counted = torch.cat(tags) != IGNORED
    every = torch.nn.functional.log_softmax(torch.cat(expected), -1)[counted]
    close(loss, -every[torch.arange(len(every)), torch.cat(tags)[counted]].mean())


def test_fault_02_question_answering_with_input_prompts_trains_on_unshifted_positions():
    """Gold positions count tokens of the text, and point at the answer in it."""
    backbone = tiny_backbone()
    model = model_on(backbone, INPUT_METHODS["prompt-tuning"], "qa")
    rows, batch = rows_and_batch("qa", backbone)
    assert all(
        "london" in backbone.tokenizer.decode(row.input_ids[row.targets["start"] :])
        or "germany" in backbone.tokenizer.decode(row.input_ids[row.targets["start"] :])
        for row in rows
    )
    with torch.no_grad():
        loss = TASKS["qa"].loss(model(batch), batch.targets)
        parts = []
        for row in rows:
            start, end = torch.log_softmax(model.head.linear(by_hand(model, row)), 0).unbind(-1)
            parts.append(-(start[row.targets["start"]] + end[row.targets["end"]]) / 2)
    close(loss, torch.stack(parts).mean())


@pytest.mark.parametrize("method", PROMPT_METHODS)
def test_fault_03_question_answering_keeps_segment_ids(method):
    """Question and context are different segments, and exchanging their numbers shows."""
    model = model_on(tiny_backbone(), PROMPT_METHODS[method], "qa")
    rows, batch = rows_and_batch("qa", model.backbone)
    assert {0, 1} == set(rows[0].token_type_ids)
    with torch.no_grad():
        right = model(batch)
        batch.token_type_ids.copy_(1 - batch.token_type_ids)
        assert (model(batch) - right).abs()[batch.attention_mask.bool()].max() > 1e-2
        if method == "prompt-tuning":
            close(right[0][: len(rows[0])], model.head.linear(by_hand(model, rows[0])))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_fault_04_the_classifier_reads_the_first_token_of_the_text(family):
    """[CLS] at its place behind the prompt, not the first virtual token."""
    task = fw.Classification(labels=("Germany", "London"), dropout=0, pooling="first")
    model = model_on(tiny_backbone(family), INPUT_METHODS["prompt-tuning"], task)
    rows, batch = rows_and_batch("classification", model.backbone)
    with torch.no_grad():
        close(model(batch), torch.stack([model.head.layers(by_hand(model, row)[0]) for row in rows]))


@pytest.mark.parametrize("method", INPUT_METHODS)
@pytest.mark.parametrize("family", DECODERS)
def test_fault_05_decoder_classification_pools_the_last_real_token(family, method):
    """A padded row is the row alone, and with a front prompt the plain model's last position."""
    task = fw.Classification(labels=("Germany", "London"), dropout=0, pooling="last")
    model = model_on(tiny_backbone(family), INPUT_METHODS[method], task)
    rows, batch = rows_and_batch("classification", model.backbone)
    assert not batch.attention_mask.all()
    logits = row_logits(model, rows)
    for row, one in zip(rows, logits, strict=True):
        close(row_logits(model, [row])[0], one)
    if method == "prompt-tuning":
        with torch.no_grad():
            close(logits[0], model.head.layers(by_hand(model, rows[0])[-1]))


@pytest.mark.parametrize("method", PROMPT_METHODS)
@pytest.mark.parametrize("family", DECODERS)
def test_fault_06_left_padded_generation_is_the_row_alone(family, method):
    """Scores of the first steps, and the tokens written."""
    backbone = tiny_backbone(family, language_model=True)
    injection = Injection([model_on(backbone, PROMPT_METHODS[method]).prompt()])
    rows = [row_of(backbone, text) for text in TEXTS]
    batch = batch_of(backbone, rows, padding="left")
    ids, mask = batch["input_ids"], batch["attention_mask"]
    written = torch.tensor([[5, 6, 7]] * len(rows))
    with torch.no_grad():
        scores = continuation_logits(backbone, ids, mask, written, injection)
        tokens = generate(backbone, ids, mask, injection, max_new_tokens=4, min_new_tokens=4)
        for number, row in enumerate(rows):
            alone = torch.tensor([row["input_ids"]])
            ones = torch.ones_like(alone)
            close(continuation_logits(backbone, alone, ones, written[:1], injection)[0], scores[number])
            found = generate(backbone, alone, ones, injection, max_new_tokens=4, min_new_tokens=4)
            assert torch.equal(found[0], tokens[number])


@pytest.mark.parametrize("kind", ["lstm", "mlp"])
def test_fault_07_the_best_p_tuning_prompt_comes_back_as_it_was(kind, tmp_path):
    """At the end of training, from an artifact, and from a checkpoint, though a network makes the prompt."""
    best = []

    def on_event(name, _):
        if name == "evaluation" and recorder.of("evaluation")[-1]["best"]:
            best.append(row_logits(trainer.model, trainer.dev.rows))

    recorder = Recorder(on_event)
    method = fw.PTuning(template=(2, "text", 2), reparameterization=kind, hidden=8)
    checkpoint = tmp_path / "checkpoint.safetensors"
    trainer = tiny_trainer(
        method=method, tracker=recorder, checkpoint=checkpoint, epochs=3, evaluate_every_steps=1, learning_rate=0.3
    )
    trainer.fit()
    assert len(recorder.of("evaluation")) > len(best) > 0
    close(torch.stack(row_logits(trainer.model, trainer.dev.rows)), torch.stack(best[-1]), 0)
    again = tiny_trainer(method=method, checkpoint=checkpoint, epochs=3, evaluate_every_steps=1, seed=5)
    again.resume()
    again.models.load_state(again.best)
    close(torch.stack(row_logits(again.model, trainer.dev.rows)), torch.stack(best[-1]), 0)
    folded = PromptedModel(tiny_backbone(), method, trainer.model.head, FoldedPrompt(fold(trainer.model.prompt)))
    close(torch.stack(row_logits(folded, trainer.dev.rows)), torch.stack(best[-1]), 1e-6)


@pytest.mark.parametrize("method", PROMPT_METHODS)
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_fault_08_gradient_checkpointing_after_wrapping_keeps_the_prompt(family, method):
    """The same loss, and the same gradient, which is not zero."""
    model = model_on(tiny_backbone(family), PROMPT_METHODS[method])
    _, batch = rows_and_batch("classification", model.backbone)
    found = []
    for recompute in (False, True):
        model.backbone.gradient_checkpointing(recompute)
        model.backbone.train()
        model.zero_grad()
        loss = TASKS["classification"].loss(model(batch), batch.targets)
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.prompt.parameters())])
    for off, on in zip(*found, strict=True):
        close(on, off, 1e-6)
        assert off.abs().max() > 0


@pytest.mark.parametrize("method", [*PROMPT_METHODS, "lora", "adapter"])
@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2"])
def test_fault_09_a_prompt_can_be_left_out_of_any_backbone(family, method):
    """The backbone of a prompted model is the bare one as soon as nobody hands it a prompt."""
    backbone = tiny_backbone(family)
    inputs = batch_of(backbone, [row_of(backbone, text) for text in TEXTS])
    with torch.no_grad():
        bare = backbone(**inputs)
        model = model_on(backbone, PROMPT_METHODS[method] if method in PROMPT_METHODS else METHODS[method]())
        for _, parameter in model.trainable():
            parameter.add_(0.1)
        _, batch = rows_and_batch("classification", backbone)
        model(batch)
        assert torch.equal(backbone(**inputs), bare)
        other = model_on(backbone, fw.HeadOnly())
        pooled = other.head(backbone(batch.input_ids, batch.attention_mask, batch.token_type_ids), batch.attention_mask)
        assert torch.equal(other(batch), pooled), "another task's model on the same backbone reads no foreign prompt"


def test_fault_10_each_row_reads_the_prompt_it_names_and_unknown_names_are_refused():
    """Nothing that chooses a prompt is swallowed."""
    backbone = tiny_backbone()
    ids = torch.tensor([row_of(backbone, TEXTS[0])["input_ids"]] * 3)
    bank = [model_on(backbone, PTuningV2(prompt_length=n, dropout=0), seed=n).prompt() for n in (2, 3)]
    with torch.no_grad():
        first, second, third = backbone(ids, torch.ones_like(ids), None, Injection(bank, torch.tensor([0, 1, 0])))
    assert torch.equal(first, third)
    assert (first - second).abs().max() > 1e-2
    with pytest.raises(TypeError, match="adapter_names"):
        backbone(ids, torch.ones_like(ids), adapter_names=["a", "b", "a"])
    predictor = fw.Engine(backbone, {"one": load_artifact(tiny_artifact("ner"))})
    with pytest.raises(ForewordError, match="'two': no such task or version"):
        predictor.predict([("two", {"text": "x"})])
    with pytest.raises(ValueError, match="row indices"):
        backbone(ids, torch.ones_like(ids), None, Injection(bank))


def test_fault_11_a_prompt_may_have_any_name_on_any_kind_of_model():
    """Names are the user's; no method wants one of its own, nor a kind of model."""
    names = ["default", "", "Größe 1/2", "task.with.dots"]
    predictor = fw.Engine(tiny_backbone(), {name: load_artifact(tiny_artifact()) for name in names})
    item = records("classification", labelled=False)[0]
    answers = predictor.predict([(name, item) for name in names])
    assert [answer.pop("task") for answer in answers] == names
    assert [answer.pop("id") for answer in answers] == ["0", "1", "2", "3"]
    assert all(answer == answers[0] for answer in answers)


def test_fault_12_prompt_tuning_of_an_encoder_decoder_has_no_dead_parameters():
    """P vectors, each of which gets a gradient and is kept."""
    backbone = tiny_backbone("t5", language_model=True)
    model = model_on(backbone, fw.PromptTuning(prompt_length=4))
    batch = batch_of(backbone, [row_of(backbone, text) for text in TEXTS])
    written = torch.tensor([[5, 6, 7]] * len(TEXTS))
    injection = Injection([model.prompt()])
    logits = continuation_logits(backbone, batch["input_ids"], batch["attention_mask"], written, injection)
    logits.log_softmax(-1)[:, :, 5].sum().backward()
    (parameter,) = model.prompt.parameters()
    assert parameter.shape == (4, backbone.embedding_size)
    assert (parameter.grad.abs().sum(1) > 0).all()
    assert fold(model.prompt).inputs.vectors.shape == parameter.shape


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_fault_13_a_prefix_reaches_encoder_decoder_and_cross_attention_of_unequal_depth(family):
    """Each stack has a prefix at each of its own layers, and each of them changes what is written."""
    backbone = tiny_backbone(family, language_model=True)
    depths = {stack: sum(site.stack == stack for site in backbone.sites) for stack in ("encoder", "decoder", "cross")}
    assert depths == {"encoder": 3, "decoder": 2, "cross": 2}
    prompt = model_on(backbone, PTuningV2(prompt_length=3, dropout=0)).prompt().map(torch.Tensor.detach)
    assert prompt.prefix.keys() == backbone.sites.keys()
    batch = batch_of(backbone, [row_of(backbone, TEXTS[0])])
    ids, mask, written = batch["input_ids"], batch["attention_mask"], torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        bare = backbone(ids, mask)
        assert (backbone(ids, mask, None, Injection([prompt])) - bare).abs().max() > 1e-2, "the encoder reads nothing"
        whole = continuation_logits(backbone, ids, mask, written, Injection([prompt]))
        for site in prompt.prefix:
            less = Prompt({one: pair for one, pair in prompt.prefix.items() if one != site})
            logits = continuation_logits(backbone, ids, mask, written, Injection([less]))
            assert (logits - whole).abs().max() > 1e-4, f"what is read at {site} changes nothing"


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_fault_14_a_prefix_takes_no_position_from_the_text(family):
    """A row of full length fits beside any prefix; positions are shifted only on request, and then told of."""
    backbone = tiny_backbone(family)
    length = backbone.max_length
    ids = torch.full((1, length), 7)
    prompts = {
        shift: PTuningV2(prompt_length=9, dropout=0, shift_positions=shift).build(backbone)().map(torch.Tensor.detach)
        for shift in (False, True)
    }
    with torch.no_grad():
        assert backbone(ids, torch.ones_like(ids), None, Injection([prompts[False]])).shape[1] == length
        with pytest.raises(BackboneError, match=f"take {length + 9} positions, the model has {length}"):
            backbone(ids, torch.ones_like(ids), None, Injection([prompts[True]]))
        blind = Prompt(
            {
                site: pair._replace(key=pair.key * 0, value=pair.value * 0)
                for site, pair in prompts[False].prefix.items()
            }
        )
        short = ids[:, :5]
        kept, shifted = (
            backbone(short, torch.ones_like(short), None, Injection([Prompt(blind.prefix, shift_positions=shift)]))
            for shift in (False, True)
        )
    assert (kept - shifted).abs().max() > 1e-3, "a shift that was asked for changes nothing"


def test_fault_15_prompts_can_be_merged_averaged_stacked_and_frozen():
    """What other methods have, prompts have here."""
    backbone = tiny_backbone()
    models = [
        model_on(backbone, PTuningV2(prompt_length=3, reparameterization="mlp", mlp_hidden=4), seed=s) for s in (1, 2)
    ]
    folded = [fold(model.prompt) for model in models]
    site = Site("encoder", 1)
    mean = average(folded, [3.0, 1.0])
    close(mean.prefix[site].key, 0.75 * folded[0].prefix[site].key + 0.25 * folded[1].prefix[site].key, 1e-6)
    assert torch.equal(stack(folded).prefix[site].value, torch.cat([p.prefix[site].value for p in folded], 1))
    merged = PromptedModel(backbone, models[0].method, models[0].head, FoldedPrompt(folded[0])).eval()
    _, batch = rows_and_batch("classification", backbone)
    with torch.no_grad():
        close(merged(batch), models[0](batch), 1e-6)
    assert list(merged.prompt.parameters()) == []
    assert {name.partition(".")[0] for name, _ in merged.trainable()} == {"head"}
    layered = model_on(backbone, METHODS["adapter"]())
    layered.attachment.detach()
    assert not [module for module in backbone.model.modules() if "forward" in vars(module)]


def test_fault_16_rows_of_one_batch_use_prompts_of_different_methods():
    """Keys and values, input vectors, deltas, nothing at all: each row as if it were alone; idle prompts stay idle."""
    backbone = tiny_backbone(dtype=torch.float64)
    encoders = [model_on(backbone, method).prompt.double() for method in PROMPT_METHODS.values()]
    bank = [encoder() for encoder in encoders] + [Prompt()]
    ids = torch.tensor([row_of(backbone, TEXTS[0])["input_ids"]])
    rows = torch.tensor([3, 0, 4, 1])  # prompt 2 is there and read by none
    hidden = backbone(ids.expand(4, -1), torch.ones(4, ids.shape[1]), None, Injection(bank, rows))
    for number, row in enumerate(rows.tolist()):
        alone = backbone(ids, torch.ones_like(ids), None, Injection([bank[row]]))
        close(hidden[number], alone[0], 1e-10)
    (hidden**3).sum().backward()
    for number, encoder in enumerate(encoders):
        grads = [p.grad for p in encoder.parameters()]
        read = [g is not None and bool((g != 0).any()) for g in grads]
        assert all(read) if number != 2 else not any(read)


@pytest.mark.parametrize("method", ["ptuning-v2-mlp", "p-tuning", "p-tuning-mlp", "prompt-tuning", "layer-deltas"])
def test_fault_17_training_goes_on_from_a_saved_artifact(method):
    """What made the prompt is saved beside it, and trains on: same numbers, all of them with gradients."""
    artifact = load_artifact(tiny_artifact("classification", method))
    backbone = tiny_backbone()
    model = PromptedModel(backbone, artifact.method, artifact.build_head(backbone), labels=artifact.task.labels)
    model.prompt.load_state_dict(load_unfolded(artifact))
    made, kept = prompt_names(fold(model.prompt)), prompt_names(artifact.prompt)
    assert made.keys() == kept.keys()
    for name, tensor in made.items():
        close(tensor, kept[name], 1e-6)
    rows = tiny_data(TASKS["classification"], backbone, 6).rows
    loss = model(collate(rows, range(6), backbone.tokenizer.pad_token_id)).square().sum()
    loss.backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in model.prompt.parameters())


@pytest.mark.parametrize("task", ["classification", "ner", "qa", "srl"])
@pytest.mark.parametrize("family", ENCODERS)
def test_fault_18_the_head_is_trained_and_saved_whatever_its_name_in_the_family(family, task, tmp_path):
    """A head is ours, so no table of names decides whether it learns."""
    run = train_tiny(task, "ptuning-v2", tiny_backbone(family))
    names = {name for name, p in run.model.trainable() if name.startswith("head.") and p.requires_grad}
    assert names == {f"head.{name}" for name, _ in run.model.head.named_parameters()}
    torch.manual_seed(run.settings.seed)
    start = run.prepared.task.build_head(run.model.backbone.hidden_size, run.model.backbone)
    assert all(not torch.equal(p, q) for p, q in zip(run.model.head.parameters(), start.parameters(), strict=True))
    run.save(tmp_path / "artifact")
    saved = load_artifact(tmp_path / "artifact").head
    assert all(torch.equal(saved[name], tensor) for name, tensor in run.model.head.state_dict().items())


def test_fault_19_images_and_several_texts_per_example():
    """A ViT reads prefixes; rows of a 3-D input are rows. Tasks of regression and multiple choice are not there yet."""
    backbone = tiny_backbone("vit")
    prompt = PTuningV2(prompt_length=3, dropout=0, init_scale=0.5).build(backbone)
    pixels = torch.randn(2, 3, 12, 12)
    changed = backbone.encode_images(pixels, Injection([prompt()]))
    assert (changed - backbone.encode_images(pixels)).abs().amax((1, 2)).min() > 1e-2
    changed.square().sum().backward()
    assert all((p.grad != 0).any() for p in prompt.parameters())
    reader = tiny_backbone()
    injection = Injection([PTuningV2(prompt_length=3, dropout=0).build(reader)()])
    choices = torch.randint(5, 200, (2, 3, 7), generator=torch.Generator().manual_seed(0))  # 2 examples of 3 choices
    with torch.no_grad():
        every = reader(choices.flatten(0, 1), torch.ones(6, 7), None, injection).unflatten(0, (2, 3))
        close(every[1, 2], reader(choices[1, 2:], torch.ones(1, 7), None, injection)[0])


@pytest.mark.parametrize("family", ENCODERS)
def test_fault_20_vectors_are_as_wide_as_the_embeddings_however_a_config_calls_it(family):
    """Narrow embeddings (ELECTRA, ALBERT), and DistilBERT's `dim`: what counts is the embedding layer itself."""
    backbone = tiny_backbone(family)
    table = plain_model(backbone).get_input_embeddings().weight
    assert (backbone.vocabulary_size, backbone.embedding_size) == tuple(table.shape)
    encoder = fw.PromptTuning(prompt_length=3, init="vocabulary").build(backbone)
    assert encoder().inputs.vectors.shape == (3, table.shape[1])
    assert all((table == vector).all(1).any() for vector in encoder().inputs.vectors), "no embedding of this model"
    ids = torch.tensor([row_of(backbone, TEXTS[0])["input_ids"]])
    assert backbone(ids, torch.ones_like(ids), None, Injection([encoder()])).shape[1] == ids.shape[1]
    narrow = json.loads((Path(backbone.name) / "config.json").read_text()).get("embedding_size")
    assert backbone.embedding_size == (narrow or backbone.hidden_size)


@dataclass
class Uneven:
    """A backbone whose layers differ in the number and the size of their heads."""

    sites: Mapping[Site, SiteShape] = field(
        default_factory=lambda: {Site("decoder", 0): SiteShape(4, 8, 4), Site("decoder", 1): SiteShape(1, 16, 4)}
    )
    hidden_size: int = 32


def test_fault_21_a_prefix_has_dropout_layers_gates_widths_and_sizes_per_layer():
    """None of them is fixed, and layers of other sizes get prefixes of their own size."""
    backbone = tiny_backbone()
    assert {site.layer for site in PTuningV2(layers="1-2").build(backbone)().prefix} == {1, 2}
    gates = {pair.gate.shape for pair in PTuningV2(gate=True).build(backbone)().prefix.values()}
    assert gates == {(4,)}
    dropped = PTuningV2(dropout=0.5, init_scale=1.0).build(backbone).train()().prefix[Site("encoder", 0)].key
    assert 0.2 < (dropped == 0).float().mean() < 0.8
    wide = PTuningV2(prompt_length=2, reparameterization="mlp", mlp_hidden=7).build(backbone)
    assert 7 in {p.shape[0] for p in wide.parameters()}
    for kind in ("direct", "mlp"):
        prefix = PTuningV2(prompt_length=3, reparameterization=kind).build(Uneven())().prefix
        assert [tuple(pair.key.shape) for pair in prefix.values()] == [(4, 3, 8), (1, 3, 16)]
    injection = Injection([Prompt(prefix), Prompt({})], torch.tensor([0, 1]))
    assert injection.at(Site("decoder", 1)).key.shape == (2, 1, 3, 16)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_fault_22_positions_and_segments_of_the_text_survive_an_input_prompt(family):
    """Behind P vectors the text stands at positions P, P + 1, ... in its own segments: hidden states as by hand."""
    backbone = tiny_backbone(family)
    vectors = model_on(backbone, INPUT_METHODS["prompt-tuning"]).prompt().inputs.vectors.detach()
    injection = Injection([model_on(backbone, INPUT_METHODS["prompt-tuning"]).prompt()])
    rows = [row_of(backbone, TEXTS[0], TEXTS[2]), row_of(backbone, TEXTS[1])]
    batch = batch_of(backbone, rows)
    with torch.no_grad():
        hidden = backbone(**batch, injection=injection)
        for number, row in enumerate(rows):
            expected = run_by_hand(backbone, row, [(0, vector) for vector in vectors])
            close(hidden[number, : len(expected)], expected)


def test_every_fault_has_one_test():
    """Twenty-two of them, numbered as they are."""
    numbers = sorted(int(name.split("_")[2]) for name in globals() if name.startswith("test_fault_"))
    assert numbers == list(range(1, 23))
