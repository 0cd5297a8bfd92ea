"""One forward pass over rows of different tasks, and one search for texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foreword.backbones import Backbone, generate
from foreword.data.batching import Encoded, collate
from foreword.inference.engine.residents import Resident
from foreword.inference.writing import settings_of, texts_of
from foreword.injection import Injection, Prompt
from foreword.model import head_logits, mix
from foreword.tasks import WritingTask, Written


class Row(NamedTuple):
    """One row, and whose it is."""

    encoded: Encoded
    resident: Resident


def read_rows(backbone: Backbone, rows: Sequence[Row]) -> list[Tensor]:
    """Logits of every row from the head of its own task, out of one forward pass.

    Returns:
        Per row ``(C,)`` or ``(T, C)`` without padding, float32 on the CPU.
    """
    if not rows:
        return []
    # A row stands in the batch once for each prompt that reads it, and rows of one head stand together.
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(id(row.resident), []).append(i)
    order = [i for group in groups.values() for i in group]
    places = [(i, prompt) for i in order for prompt in rows[i].resident.prompts]
    batch = collate([row.encoded for row in rows], [i for i, _ in places], backbone.tokenizer.pad_token_id)
    batch = batch.to(backbone.device)
    deep = any(row.resident.head.every_layer for row in rows)
    hidden = backbone(
        batch.input_ids,
        batch.attention_mask,
        batch.token_type_ids,
        injection_of([prompt for _, prompt in places]),
        every_layer=deep,
    )
    found: list[Tensor] = []
    start = 0
    for group in groups.values():
        resident = rows[group[0]].resident
        end = start + len(group) * len(resident.prompts)
        logits = head_logits(
            resident.head,
            backbone,
            hidden[start:end],
            batch.input_ids[start:end],
            batch.attention_mask[start:end],
            marks=None if batch.marks is None else batch.marks[start:end],
        )
        if resident.log_weights is not None:
            logits = mix(logits, resident.log_weights, resident.head.class_axis)
        found += logits.float().unbind()
        start = end
    on_cpu = _fetch(found)
    answers = dict(zip(order, on_cpu, strict=True))
    return [
        answer[: len(row.encoded)] if (answer := answers[i]).dim() == 2 else answer for i, row in enumerate(rows)
    ]


def write_rows(backbone: Backbone, rows: Sequence[Row]) -> list[Written]:
    """What is written for each row; one search for all that search alike."""
    alike: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    for i, row in enumerate(rows):
        assert isinstance(row.resident.task, WritingTask)
        alike.setdefault(tuple(settings_of(row.resident.task, backbone).items()), []).append(i)
    found: dict[int, Written] = {}
    for settings, numbers in alike.items():
        batch = collate([row.encoded for row in rows], numbers, backbone.tokenizer.pad_token_id).to(backbone.device)
        injection = injection_of([rows[i].resident.prompts[0] for i in numbers])
        ids = generate(backbone, batch.input_ids, batch.attention_mask, injection, **dict(settings))
        found.update(zip(numbers, texts_of(ids, backbone.tokenizer), strict=True))
    return [found[i] for i in range(len(rows))]


def injection_of(prompts: Sequence[Prompt]) -> Injection:
    """Each row its prompt, from a bank of those that occur, each once."""
    bank = {id(prompt): prompt for prompt in prompts}
    places = {key: place for place, key in enumerate(bank)}
    return Injection(list(bank.values()), torch.tensor([places[id(prompt)] for prompt in prompts]))


def _fetch(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of any shapes on the CPU, in one transfer."""
    if tensors[0].device.type == "cpu":
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
