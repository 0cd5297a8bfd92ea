"""Every family that reads text computes the same when compiled, whatever kind of prompt stands before it."""

from __future__ import annotations

import pytest
import torch

from by_hand import random_prompt, tensors
from foreword.injection import Injection, InputPrompt, Prompt
from tiny import tiny_backbone
from tiny_prompts import TEXTS, padded

KINDS = ("prefix", "gate", "vectors", "deltas")


def prompt_of(backbone, kind):
    """One prompt of a kind, in float32, ready to be differentiated."""
    if kind in ("prefix", "gate"):
        return random_prompt(backbone, 3, seed=1, gated=kind == "gate", dtype=torch.float32)
    made = random_prompt(backbone, 0, seed=2, front=2, dtype=torch.float32)
    if kind == "vectors":
        return made
    changes = {layer: torch.randn(2, backbone.hidden_size).requires_grad_() for layer in (0, 1)}
    return Prompt(inputs=InputPrompt(made.inputs.vectors, made.inputs.anchors, changes))


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_and_not(text_family, kind):
    if text_family == "clip_text_model" and kind in ("vectors", "deltas"):
        pytest.skip("takes no embeddings, so no vectors")
    torch.manual_seed(0)
    backbone = tiny_backbone(text_family)
    ids, mask, _ = padded(backbone, TEXTS[:3])
    bank = [prompt_of(backbone, kind), random_prompt(backbone, 1, seed=5, dtype=torch.float32)]
    injection = Injection(bank, torch.tensor([0, 1, 0]))
    torch._dynamo.reset()
    results = []
    for run in (backbone, torch.compile(backbone, backend="eager")):
        hidden = run(ids, mask, None, injection)
        results.append([hidden[mask.bool()], *torch.autograd.grad((hidden[mask.bool()] ** 2).sum(), tensors(*bank))])
    for plain, compiled in zip(*results, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-3)
