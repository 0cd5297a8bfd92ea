"""Logits and predictions of one model for many rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor

from foreword.data.batching import WRITTEN, Batch, Encoded, collate, sorted_batches
from foreword.inference.encoding import EncodedSet
from foreword.inference.writing import settings_of, texts_of, token_scores
from foreword.model import PromptedModel
from foreword.tasks import Task, WritingTask, Written

AnswerT = TypeVar("AnswerT")


def most_tokens(device: torch.device) -> int:
    """Positions per batch, padding included, beyond which a device is not faster any more and only takes memory."""
    return 4096 if device.type == "cpu" else 16384


def row_logits(
    model: PromptedModel,
    rows: Sequence[Encoded],
    *,
    batch_size: int = 32,
    bf16: bool = False,
    passes: Callable[[int], int] | None = None,
) -> list[Tensor]:
    """Logits of every row, alone or in whatever batch: ``(C,)`` or ``(T, C)``, float32 on the CPU.

    Where a language model writes the answers, logits over its vocabulary would be far too many to keep. Then it is
    ``(U, 2)``, what `token_scores` leaves of them for each token of the row's target.

    Args:
        model: is put into evaluation mode.
        rows: in any order; they are batched by length. All have targets where the answers are written.
        batch_size: most rows per forward pass; long ones are fewer (`most_tokens`).
        bf16: whether to compute in bfloat16.
        passes: told how many forward passes the rows need, says how many to take, for models that several processes
            run in step; what is beyond the rows is of no use here.
    """

    def read(batch: Batch) -> list[Tensor]:
        logits = model(batch)
        if model.head.reads == "continuation":
            logits = token_scores(logits, batch.targets[WRITTEN])
            lengths = [len(rows[i].targets[WRITTEN]) for i in batch.indices]  # type: ignore[arg-type]
        else:
            lengths = [len(rows[i]) for i in batch.indices]
        found = logits.float().cpu()
        return [row[:length] if row.dim() == 2 else row for row, length in zip(found, lengths, strict=True)]

    return _in_batches(model, rows, read, batch_size=batch_size, bf16=bf16, passes=passes)


def row_texts(
    model: PromptedModel,
    task: WritingTask[Any, Any],
    rows: Sequence[Encoded],
    *,
    batch_size: int = 32,
    bf16: bool = False,
) -> list[Written]:
    """What the model writes behind every row, searched for as the task says; arguments as for `row_logits`."""
    settings = settings_of(task, model.backbone)

    def read(batch: Batch) -> list[Written]:
        return texts_of(model.write(batch, **settings), model.backbone.tokenizer)

    return _in_batches(model, rows, read, batch_size=batch_size, bf16=bf16)


def predict_encoded(
    model: PromptedModel,
    task: Task[Any, Any],
    encoded: EncodedSet,
    *,
    batch_size: int = 32,
    bf16: bool = False,
    selecting: bool = False,
    passes: Callable[[int], int] | None = None,
) -> list[Any]:
    """One prediction per example, in order.

    Args:
        model, task, encoded: what predicts what.
        batch_size, bf16, passes: as for `row_logits`.
        selecting: whether the predictions only serve to select weights, for which a task may need no text written.
    """
    writes = isinstance(task, WritingTask)
    judged = [i for i, row in enumerate(encoded.rows) if not writes or WRITTEN in row.targets]
    found = row_logits(model, [encoded.rows[i] for i in judged], batch_size=batch_size, bf16=bf16, passes=passes)
    logits, nothing = dict(zip(judged, found, strict=True)), torch.empty(0, 2)
    predictions = [
        task.decode(example, [encoded.rows[i] for i in rows], [logits.get(i, nothing) for i in rows])
        for example, rows in zip(encoded.examples, encoded.rows_of, strict=True)
    ]
    if not isinstance(task, WritingTask) or (selecting and not task.selects_by_writing):
        return predictions
    firsts = [encoded.rows[rows[0]] for rows in encoded.rows_of]  # rows of one example differ in their targets alone
    texts = row_texts(model, task, firsts, batch_size=batch_size, bf16=bf16)
    return [task.with_text(*one) for one in zip(encoded.examples, predictions, texts, strict=True)]


@torch.inference_mode()
def _in_batches(
    model: PromptedModel,
    rows: Sequence[Encoded],
    read: Callable[[Batch], Sequence[AnswerT]],
    *,
    batch_size: int,
    bf16: bool,
    passes: Callable[[int], int] | None = None,
) -> list[AnswerT]:
    """An answer to every row, in order, from batches of rows of similar lengths."""
    model.eval()
    device = model.backbone.device
    autocast = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
    found: dict[int, AnswerT] = {}
    batches = list(sorted_batches([len(row) for row in rows], batch_size, most_tokens=most_tokens(device)))
    wanted = len(batches) if passes is None else passes(len(batches))
    for indices in [*batches, *batches[-1:] * (wanted - len(batches))]:
        batch = collate(rows, indices, model.backbone.tokenizer.pad_token_id)
        with autocast:
            answers = read(batch.to(device))
        found.update(zip(indices, answers, strict=True))
    return [found[i] for i in range(len(rows))]
