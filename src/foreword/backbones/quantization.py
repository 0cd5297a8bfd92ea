"""A frozen backbone's matrices in eight bits: a quarter of the memory, and on a CPU less time.

Weights are rounded once, per output; what is multiplied with them is rounded anew in every call, per
token, so that a row does not depend on the rows beside it. Gradients pass through to the prompt as if
nothing had been rounded on the way, with the weights as they were rounded.

Source: Dettmers et al. 2022 ('LLM.int8()'), section 2.1 (vector-wise quantization), without its
treatment of outliers.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from foreword.errors import BackboneError

Quantization = Literal["int8", "bitsandbytes-8bit", "bitsandbytes-4bit"]
_TINY = 1e-12  # in place of zero, where a row or a column holds nothing else


class Int8Linear(nn.Module):
    """Stands in for a frozen linear layer.

    Args:
        weight: ``(in, out)``, the layer's matrix.
        bias: ``(out,)`` or None.
    """

    def __init__(self, weight: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        scale = (weight.float().abs().amax(0) / 127).clamp(min=_TINY)
        rounded = (weight / scale).round().to(torch.int8).contiguous()  # (in, out): the order _int_mm is fast in
        self.weight = nn.Parameter(rounded, requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in)`` to ``(..., out)``."""
        out: Tensor = _Int8Product.apply(  # type: ignore[no-untyped-call]
            x.reshape(-1, x.shape[-1]), self.weight, self.scale
        )
        out = out if self.bias is None else out + self.bias
        return out.reshape(*x.shape[:-1], -1)


class _Int8Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        steps = (x.float().abs().amax(1, keepdim=True) / 127).clamp(min=_TINY)
        product = torch._int_mm((x / steps).round().to(torch.int8), weight)
        return (product * steps * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,), (weight, scale) = gradients, ctx.saved_tensors
        return gradient @ (weight * scale).to(gradient.dtype).T, None, None


def quantize_linears(model: Any) -> None:
    """Put an `Int8Linear` in place of every linear layer of ``model`` but the one that gives words."""
    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if child is head:
                continue
            if type(child) is nn.Linear:
                setattr(module, name, Int8Linear(child.weight.detach().T, child.bias))
            elif type(child) is Conv1D:  # GPT-2's
                setattr(module, name, Int8Linear(child.weight.detach(), child.bias))


def check_device(name: str, quantization: Quantization | None, device: torch.device) -> None:
    """Refuse a device that cannot compute with a backbone rounded in this way.

    Raises:
        BackboneError: saying what to do.
    """
    if quantization == "int8" and device.type != "cpu":
        raise BackboneError(
            f"{name}: quantization 'int8' is for CPUs, not for '{device}'. Set ACCELERATE_USE_CPU=true where it is "
            "trained, or take 'bitsandbytes-8bit'"
        )


def loading_options(name: str, quantization: Quantization | None, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` must be told to quantize while it loads; nothing for "int8", which is done here.

    Raises:
        BackboneError: it cannot be done on this device, or a package is missing.
    """
    if quantization is None:
        return {}
    check_device(name, quantization, device)
    if quantization == "int8":
        return {}
    if find_spec("bitsandbytes") is None:
        raise BackboneError(
            f"{name}: quantization '{quantization}' needs a package. Run: pip install bitsandbytes, "
            "or use quantization 'int8' on a CPU"
        )
    bits = {"bitsandbytes-8bit": {"load_in_8bit": True}, "bitsandbytes-4bit": {"load_in_4bit": True}}[quantization]
    return {"quantization_config": BitsAndBytesConfig(**bits), "device_map": {"": device}}
