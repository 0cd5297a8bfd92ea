"""A step of training of prompt and head: forward, backward, clipping, AdamW."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import foreword as fw
from foreword.model import PromptedModel
from suite.trials.work import PROMPT, Run, Work

NORM = 1.0


def as_it_is(work: Work) -> Run:
    """Foreword in float32."""
    return _steps(work, work.backbone())


def autocast(work: Work) -> Run:
    """Foreword with `precision = "bf16"`."""
    return _steps(work, work.backbone(), autocast=True)


def bf16_weights(work: Work) -> Run:
    """All weights of the backbone rounded to bfloat16 once; prompt and head stay float32."""
    return _steps(work, work.backbone(dtype=torch.bfloat16))


def compiled(work: Work) -> Run:
    """`torch.compile` of the backbone, forward and backward, for any shape."""
    return _steps(work, work.compiled())


def _steps(work: Work, backbone: fw.Backbone, *, autocast: bool = False) -> Run:
    """Steps whose result is the gradient of the prompt, as one row; the same in every step, for the rate is zero.

    What AdamW does is done all the same.
    """
    torch.manual_seed(0)
    task = fw.Classification(labels=("0", "1"), dropout=0)
    method = fw.PTuningV2(prompt_length=PROMPT, init_scale=0.5, dropout=0)
    model = PromptedModel(backbone, method, task.build_head(backbone.hidden_size, backbone)).train()
    trained = [parameter for _, parameter in model.trainable()]
    optimizer = torch.optim.AdamW(trained, lr=0.0, fused=True)
    labels = torch.arange(len(work.lengths)) % 2
    assert model.prompt is not None
    prompt = list(model.prompt.parameters())

    def run() -> list[Tensor]:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = nn.functional.cross_entropy(model(work.batch).float(), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, NORM)
        optimizer.step()
        return [weight.grad.clone().flatten() for weight in prompt if weight.grad is not None]

    return run


TRIALS = {
    "Foreword": as_it_is,
    "Foreword, bf16 autocast": autocast,
    "torch.compile": compiled,
    "Foreword, bf16 weights": bf16_weights,
}
