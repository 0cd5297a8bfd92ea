"""Logits and predictions of one model for many rows."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from foreword.data.batching import Encoded, collate, sorted_batches
from foreword.inference.encoding import EncodedSet
from foreword.model import PromptedModel
from foreword.tasks import Task


@torch.inference_mode()
def row_logits(
    model: PromptedModel, rows: Sequence[Encoded], *, batch_size: int = 32, bf16: bool = False
) -> list[Tensor]:
    """Logits of every row, alone or in whatever batch: ``(C,)`` or ``(T, C)``, float32 on the CPU.

    Args:
        model: is put into evaluation mode.
        rows: in any order; they are batched by length.
        batch_size: rows per forward pass.
        bf16: whether to compute in bfloat16.
    """
    model.eval()
    device = model.backbone.device
    out: list[Tensor] = [torch.empty(0)] * len(rows)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
    for indices in sorted_batches([len(row) for row in rows], batch_size):
        batch = collate(rows, indices, model.backbone.tokenizer.pad_token_id)
        with autocast:
            logits = model(batch.to(device)).float().cpu()
        for i, row in zip(indices, logits, strict=True):
            out[i] = row[: len(rows[i])] if row.dim() == 2 else row
    return out


def predict_encoded(
    model: PromptedModel,
    task: Task[Any, Any],
    encoded: EncodedSet,
    *,
    batch_size: int = 32,
    bf16: bool = False,
) -> list[Any]:
    """One prediction per example, in order."""
    logits = row_logits(model, encoded.rows, batch_size=batch_size, bf16=bf16)
    return [
        task.decode(example, [encoded.rows[i] for i in rows], [logits[i] for i in rows])
        for example, rows in zip(encoded.examples, encoded.rows_of, strict=True)
    ]
