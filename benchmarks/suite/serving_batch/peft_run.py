"""PEFT on the same rows: one active prompt at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from peft import PrefixTuningConfig, get_peft_model
from torch import Tensor
from transformers import AutoModel
from transformers.utils import logging


def peft_by_task(folder: str, ids: Mapping[str, Tensor], prompt: int) -> Callable[[], Any]:
    """Prefix tuning with `set_adapter` for the rows of each task; hidden states only, without heads.

    Args:
        folder: of the pretrained model.
        ids: task -> its rows ``(B, T)``.
        prompt: P.
    """
    logging.set_verbosity_error()
    bare = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    config = {"task_type": "FEATURE_EXTRACTION", "num_virtual_tokens": prompt, "inference_mode": True}
    first, *others = ids
    model = get_peft_model(bare, PrefixTuningConfig(**config), adapter_name=first)
    for name in others:
        model.add_adapter(name, PrefixTuningConfig(**config))
    model.eval()

    def run() -> None:
        with torch.inference_mode():
            for name, own in ids.items():
                model.set_adapter(name)
                model(input_ids=own, attention_mask=torch.ones_like(own))

    return run
