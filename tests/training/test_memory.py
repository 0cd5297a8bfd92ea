"""What training keeps for the backward pass: bytes by the table in docs/memory.md, and the peak of whole steps."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest
import torch

import foreword as fw
from foreword.injection import Injection
from tiny import tiny_backbone

ROWS, TOKENS, PROMPT = 4, 24, 3


def kept(backbone, injection, *, bf16=False):
    """Bytes that one pass keeps, weights and prompts apart."""
    own = {one.untyped_storage().data_ptr() for one in backbone.model.parameters()}
    seen = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = (tensor, storage.nbytes())  # held, so that no other takes its place
        return tensor

    ids = torch.randint(10, 50, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), autocast:
        hidden = backbone(ids, torch.ones_like(ids), injection=injection)
    assert hidden.requires_grad
    return sum(size for _, size in seen.values())


def injection_of(backbone, **method):
    method = fw.PTuningV2(prompt_length=PROMPT, dropout=0.0, **method)
    return Injection([method.build(backbone)()])


@pytest.mark.parametrize("bf16", [False, True])
def test_a_frozen_backbone_keeps_the_bytes_of_the_table(bf16):
    backbone = tiny_backbone("bert")
    width, inner = backbone.hidden_size, backbone.trunk.config.intermediate_size
    size = 2 if bf16 else 4
    attention = size * (width + 2 * width * (1 + PROMPT / TOKENS))
    per_token = attention + size * inner + 4 * 2 * width
    weights = size * (4 * width * width + 2 * width * inner) * bf16  # in bfloat16, until the backward pass
    table = backbone.depth * (ROWS * TOKENS * per_token + weights)
    found = kept(backbone, injection_of(backbone), bf16=bf16)
    assert 0.9 * table < found < 1.1 * table  # means and deviations of layer norms, the first layer's queries


def test_fine_tuning_keeps_more_and_upper_layers_alone_less():
    backbone = tiny_backbone("bert")
    frozen = kept(backbone, injection_of(backbone))
    top = kept(backbone, injection_of(backbone, layers="top-1"))
    assert top < 1.1 * frozen / backbone.depth
    backbone.gradient_checkpointing()
    backbone.train()
    again = kept(backbone, injection_of(backbone))
    backbone.gradient_checkpointing(False)
    backbone.eval()
    assert again < 0.4 * frozen
    backbone.model.requires_grad_(True)
    try:
        tuned = kept(backbone, None)
    finally:
        backbone.freeze()
    assert frozen < 0.7 * tuned


def peak(connection, method, **settings):
    """Bytes by which the process rises in three steps; runs in a process of its own."""
    torch.set_num_threads(1)
    backbone = tiny_backbone(
        "bert", hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=8
    )
    words = ["the", "old", "doctor", "was", "reading", "about", "banks", "in", "London"]
    data = [{"text": " ".join((words * 20)[:100]), "label": str(number % 2)} for number in range(16)]
    fw.Classification(), fw.train
    start = 0

    class Watch:
        def event(self, kind, step, values):
            nonlocal start
            del values
            if kind == "start":
                Path("/proc/self/clear_refs").write_text("5")
                start = memory("VmRSS")
            elif step == 3:
                raise KeyboardInterrupt

        def close(self):
            pass

    with pytest.raises(KeyboardInterrupt):
        fw.train(
            backbone, method, fw.Classification(), train=data, dev=data[:2], progress=False, tracker=Watch(),
            batch_size=16, epochs=9, evaluate_every_steps=99, **settings,
        )  # fmt: skip
    connection.send(memory("VmHWM") - start)


def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def peaks(*runs):
    """Of each in turn, the lower of two: where a machine is busy, threads of the allocator hold on to more."""
    return [min(peak_of(method, settings) for _ in range(2)) for method, settings in runs]


def peak_of(method, settings):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=peak, args=(theirs, method), kwargs=settings)
    process.start()
    theirs.close()
    found = ours.recv()
    process.join()
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
class TestPeaks:
    def test_of_a_prompt_less_than_of_fine_tuning(self):
        prompt, tuning = peaks((fw.PTuningV2(prompt_length=8), {}), (fw.FineTuning(), {}))
        assert prompt < 0.75 * tuning

    def test_in_pieces_less_than_at_once(self):
        whole, pieces = peaks(*((fw.PTuningV2(prompt_length=8), {"tokens_at_once": most}) for most in (2048, 410)))
        assert pieces < 0.6 * whole
