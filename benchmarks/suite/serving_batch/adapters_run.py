"""AdapterHub's `adapters` on the same rows, in its own environment: its bare model, and prefixes under `BatchSplit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from adapters import AutoAdapterModel, PrefixTuningConfig
from adapters.composition import BatchSplit

from suite.worker import Turns


def run(job: Mapping[str, Any], turns: Turns) -> None:
    """One forward pass whenever it is wanted.

    Args:
        job: ``folder`` of the model, ``rows`` of token ids in order of their ``tasks``, prompts' ``length`` (0: none).
        turns: asked before every pass.
    """
    model = AutoAdapterModel.from_pretrained(job["folder"]).eval()
    turns.loaded(model)
    ids = torch.tensor(job["rows"])
    if job["length"]:
        names = [f"task-{number}" for number in range(job["tasks"])]
        for name in names:
            model.add_adapter(name, config=PrefixTuningConfig(prefix_length=job["length"], flat=True))
        model.set_active_adapters(BatchSplit(*names, batch_sizes=[len(ids) // len(names)] * len(names)))
    bf16 = job["precision"] == "bf16"
    with torch.inference_mode(), torch.autocast(job["device"], torch.bfloat16, enabled=bf16):
        while True:
            turns.next()
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
