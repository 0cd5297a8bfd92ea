"""Inference on one padded batch. A trial takes the work and gives what does it; what it needs first, it does itself."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

import foreword as fw
from foreword.backbones.attention import KEYWORD
from foreword.injection import Injection
from suite.trials.work import Run, Work

INPUTS, OUTPUT, OPSET = ("input_ids", "attention_mask"), "hidden", 18


def as_it_is(work: Work) -> Run:
    """Foreword's own pass in float32."""
    return _runs(work, work.backbone())


def padded(work: Work) -> Run:
    """The same with all of the padding, as it is on other devices."""
    backbone, batch = work.backbone(), work.batch
    model = Folded(backbone, work.injection(backbone))

    @torch.inference_mode()
    def run() -> list[Tensor]:
        return work.unpadded(model(batch.input_ids, batch.attention_mask))

    return run


def autocast(work: Work) -> Run:
    """Foreword with `precision = "bf16"`: weights stay float32 and are rounded in every pass."""
    return _runs(work, work.backbone(), autocast=True)


def bf16_weights(work: Work) -> Run:
    """All weights rounded to bfloat16 once (`load_backbone(dtype=...)`)."""
    return _runs(work, work.backbone(dtype=torch.bfloat16))


def compiled(work: Work) -> Run:
    """`torch.compile` for any shape."""
    return _runs(work, work.compiled())


def compiled_bf16(work: Work) -> Run:
    """Both of it."""
    return _runs(work, work.compiled(dtype=torch.bfloat16))


def int8_foreword(work: Work) -> Run:
    """`quantization = "int8"`, as Foreword has it: scales per output and per token."""
    return _runs(work, work.backbone(quantization="int8"))


def int8_torch(work: Work) -> Run:
    """Dynamic quantization of torch: one scale per weight matrix, and one for all that is multiplied with it."""
    backbone = work.backbone()
    torch.ao.quantization.quantize_dynamic(backbone.model, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return _runs(work, backbone)


def exported(work: Work) -> Run:
    """ONNX with the prompt folded in, for any number of rows and tokens, run by onnxruntime."""
    import onnxruntime  # noqa: PLC0415  not everywhere

    backbone = work.backbone()
    ids, mask = work.batch.input_ids, work.batch.attention_mask
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        torch.onnx.export(
            Folded(backbone, work.injection(backbone)).eval(),
            (ids, mask),
            file,
            input_names=INPUTS,
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
            dynamo=True,
            verbose=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = work.threads
        options.add_session_config_entry("session.force_spinning_stop", "1")  # it would disturb who comes next
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = dict(zip(INPUTS, (ids.numpy(), mask.numpy()), strict=True))
    return lambda: work.unpadded(torch.from_numpy(session.run([OUTPUT], given)[0]))


class Folded(nn.Module):
    """A backbone and its prompt as one module without choices, as an export wants it: with all padding.

    Args:
        backbone: that is run.
        injection: what every row reads.
    """

    def __init__(self, backbone: fw.Backbone, injection: Injection) -> None:
        super().__init__()
        self.model, self._backbone, self._injection = backbone.trunk, [backbone], injection

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Token ids ``(B, T)``, padded on the right, to hidden states ``(B, T, D)``."""
        call = self._backbone[0].prefix_call(self._injection)
        hidden: Tensor = self.model(
            input_ids=input_ids, attention_mask=attention_mask, **{KEYWORD: call}
        ).last_hidden_state
        return hidden


def _runs(work: Work, backbone: fw.Backbone, *, autocast: bool = False) -> Run:
    injection, batch = work.injection(backbone), work.batch

    def run() -> list[Tensor]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            return work.unpadded(backbone(batch.input_ids, batch.attention_mask, injection=injection))

    return run


TRIALS = {
    "Foreword": as_it_is,
    "padded": padded,
    "Foreword, bf16 autocast": autocast,
    "Foreword, int8": int8_foreword,
    "torch.compile": compiled,
    "Foreword, bf16 weights": bf16_weights,
    "bf16 weights, torch.compile": compiled_bf16,
    "int8, quantize_dynamic": int8_torch,
    "ONNX, onnxruntime": exported,
}
