"""What a study calls PEFT's prefix tuning: our loop with PEFT's settings trains the same numbers as PEFT itself."""

from __future__ import annotations

import peft
import pytest
import torch
from peft import get_peft_model

import foreword as fw
from foreign import LENGTH, backbone_with_pooler, base_model, batch_for
from foreword.data.batching import IGNORED, Batch
from foreword.model import PromptedModel

AS_PEFT = fw.PTuningV2(prompt_length=LENGTH, init_scale=1.0, dropout=0.0, shift_positions=True)
"""Numbers from N(0, 1), no dropout of the prefix, positions counted from behind it (tests/exchange/test_peft.py)."""
STEPS, RATE = 5, 1e-2


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return backbone_with_pooler("bert", tmp_path_factory.mktemp("models") / "bert")


def start(backbone):
    """PEFT's model and ours with the same numbers, without dropout in either."""
    torch.manual_seed(5)
    config = peft.PrefixTuningConfig(task_type="TOKEN_CLS", num_virtual_tokens=LENGTH)
    theirs = get_peft_model(base_model(backbone, "TOKEN_CLS"), config).eval()  # evaluating: gradients, no dropout
    ours = PromptedModel(
        backbone, AS_PEFT, fw.NER(labels=("PER",), layers="last", dropout=0).build_head(backbone.hidden_size, backbone)
    )
    classifier = theirs.base_model.classifier.modules_to_save["default"]
    with torch.no_grad():
        ours.prompt.prompt.weight.copy_(theirs.prompt_encoder["default"].embedding.weight)
        ours.head.linear.weight.copy_(classifier.weight)
        ours.head.linear.bias.copy_(classifier.bias)
    return theirs, ours.train()


def test_the_same_numbers_after_some_steps(backbone):
    theirs, ours = start(backbone)
    inputs = batch_for(backbone)
    generator = torch.Generator().manual_seed(1)
    tags = torch.randint(3, inputs["input_ids"].shape, generator=generator)
    tags[inputs["attention_mask"] == 0] = IGNORED
    batch = Batch(inputs["input_ids"], inputs["attention_mask"], inputs.get("token_type_ids"), {"tags": tags}, ())
    optimizers = [
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
        for model in (theirs, ours)
    ]
    losses: list[list[float]] = [[], []]
    for _ in range(STEPS):
        for number, loss in enumerate(
            (theirs(**inputs, labels=tags).loss, fw.NER(labels=("PER",)).loss(ours(batch), {"tags": tags}))
        ):
            optimizers[number].zero_grad()
            loss.backward()
            optimizers[number].step()
            losses[number].append(loss.item())
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-4, atol=1e-5)
    assert losses[0][-1] < losses[0][0]
    torch.testing.assert_close(
        ours.prompt.prompt.weight, theirs.prompt_encoder["default"].embedding.weight, rtol=1e-3, atol=1e-4
    )


def test_they_start_from_the_same_distribution(backbone):
    torch.manual_seed(5)
    ours = AS_PEFT.model_copy(update={"prompt_length": 400}).build(backbone).prompt.weight
    config = peft.PrefixTuningConfig(task_type="TOKEN_CLS", num_virtual_tokens=400)
    theirs = get_peft_model(base_model(backbone, "TOKEN_CLS"), config).prompt_encoder["default"].embedding.weight
    for moment in (torch.mean, torch.std):
        torch.testing.assert_close(moment(ours), moment(theirs), rtol=0.02, atol=0.02)
