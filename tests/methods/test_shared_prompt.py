"""One prompt for several tasks: models that share an encoder train it together, each with a head of its own."""

from __future__ import annotations

import pytest
import torch

from foreword.data.batching import collate
from foreword.injection import Injection
from foreword.methods import LayerDeltas, PTuningV2, fold
from foreword.model import PromptedModel, head_logits
from tiny import tiny_backbone
from tiny_runs import TASKS, tiny_data

METHODS = {
    "direct": PTuningV2(prompt_length=3, dropout=0),
    "mlp": PTuningV2(prompt_length=3, dropout=0, reparameterization="mlp", mlp_hidden=8),
    "layer-deltas": LayerDeltas(prompt_length=3),
}


@pytest.fixture(params=METHODS)
def models(request):
    """Tagging and classification over one backbone and one prompt."""
    torch.manual_seed(0)
    backbone, method = tiny_backbone(), METHODS[request.param]
    shared = method.build(backbone)
    return {
        name: PromptedModel(backbone, method, TASKS[name].build_head(backbone.hidden_size, backbone), shared)
        for name in ("ner", "classification")
    }


def batch_of(model, name, count=6):
    return collate(tiny_data(TASKS[name], model.backbone).rows, range(count), model.backbone.tokenizer.pad_token_id)


def loss_of(model, name):
    batch = batch_of(model, name)
    return TASKS[name].loss(model(batch), batch.targets)


def gradients(model):
    return [parameter.grad.clone() for parameter in model.prompt.parameters()]


def test_the_shared_prompt_gets_the_gradients_of_all_tasks(models):
    alone = []
    for name, model in models.items():
        model.zero_grad()
        loss_of(model, name).backward()
        alone.append(gradients(model))
    first = next(iter(models.values()))
    first.zero_grad()
    sum(loss_of(model, name) for name, model in models.items()).backward()
    for together, *each in zip(gradients(first), *alone, strict=True):
        torch.testing.assert_close(together, sum(each), rtol=1e-5, atol=1e-7)
        assert all(one.abs().max() > 0 for one in each)


def test_taking_turns_lowers_the_loss_of_every_task_and_keeps_one_prompt(models):
    parameters = {id(p): p for model in models.values() for _, p in model.trainable()}
    optimizer = torch.optim.AdamW(parameters.values(), lr=2e-2)
    with torch.no_grad():
        before = {name: loss_of(model, name).item() for name, model in models.items()}
    for _ in range(12):
        for name, model in models.items():
            optimizer.zero_grad()
            loss_of(model, name).backward()
            optimizer.step()
    with torch.no_grad():
        after = {name: loss_of(model, name).item() for name, model in models.items()}
    assert all(after[name] < 0.8 * before[name] for name in models)
    tagger, classifier = models.values()
    assert tagger.prompt is classifier.prompt


@torch.no_grad()
def test_rows_of_both_tasks_read_it_in_one_pass(models):
    tagger, classifier = models["ner"].eval(), models["classification"].eval()
    batch = batch_of(tagger, "ner")
    texts = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    hidden = tagger.backbone(*texts, Injection([fold(tagger.prompt)]), every_layer=True)
    for model in (tagger, classifier):
        found = head_logits(model.head, model.backbone, hidden, batch.input_ids, batch.attention_mask)
        torch.testing.assert_close(found, model(batch))
