"""Where a backbone computes when nobody has said so: on the GPU of this machine, if it has one."""

from __future__ import annotations

import torch
from accelerate.utils import parse_flag_from_env

from foreword.backbones.quantization import Quantization
from foreword.errors import BackboneError


def may_use_gpu() -> bool:
    """Whether there is a GPU, or its like, and ``ACCELERATE_USE_CPU=true`` does not say that none may be used."""
    return torch.accelerator.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")


def device_named(name: str | None = None, quantization: Quantization | None = None) -> torch.device:
    """A device by its name, such as 'cpu' or 'cuda:1'; without one the GPU, or the CPU where there is none.

    Args:
        name: of the device, or None for the best that there is.
        quantization: of the backbone. One rounded to int8 computes on a CPU only.

    Raises:
        BackboneError: this machine has no such device.
    """
    gpu = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name is None:
        return gpu if gpu is not None and may_use_gpu() and quantization != "int8" else torch.device("cpu")
    numbered = [] if gpu is None else [f"{gpu.type}:{n}" for n in range(torch.accelerator.device_count())]
    known = ["cpu", *([] if gpu is None else [gpu.type]), *numbered]
    if name not in known:
        raise BackboneError(f"device '{name}': this machine has {', '.join(known)}")
    return torch.device(name)
