"""Other libraries on the same rows: PEFT, one active prompt at a time; `adapters`, in a Python of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import AutoModel

from foreword.backbones.loading import packaged_folder
from foreword.inference.engine import Job


def peft_by_task(backbone: str, jobs: Sequence[Job], prompt: int) -> Callable[[], Any]:
    """Prefix tuning with `set_adapter` for the rows of each task; hidden states only, without heads."""
    rows: dict[str, list[list[int]]] = {}
    for job in jobs:
        rows.setdefault(job.handle.task, []).extend(row.input_ids for part in job.parts for row in part.rows)
    longest = max(len(row) for own in rows.values() for row in own)
    ids = {name: torch.tensor([row + row[: longest - len(row)] for row in own]) for name, own in rows.items()}
    bare = AutoModel.from_pretrained(packaged_folder(backbone), add_pooling_layer=False).eval()
    config = {"task_type": "FEATURE_EXTRACTION", "num_virtual_tokens": prompt, "inference_mode": True}
    first, *others = ids
    model = get_peft_model(bare, PrefixTuningConfig(**config), adapter_name=first)
    for name in others:
        model.add_adapter(name, PrefixTuningConfig(**config))
    model.eval()

    def run() -> Any:
        with torch.inference_mode():
            for name, own in ids.items():
                model.set_adapter(name)
                model(input_ids=own, attention_mask=torch.ones_like(own))

    return run


def batch_split(python: Path, given: Mapping[str, Any], backbone: str) -> dict[str, Any]:
    """Rows in a process of `adapters`, beside its own bare model; ``given`` as `engine_batch_split.py` reads it."""
    script = Path(__file__).with_name("engine_batch_split.py")
    text = json.dumps({**given, "folder": str(packaged_folder(backbone))})
    done = subprocess.run([python, script], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
