"""One forward pass over rows of different tasks, and one search for texts."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from foreword.backbones import Backbone, generate
from foreword.data.batching import Batch, Encoded, collate
from foreword.inference.engine.heads import Stack, worth_stacking
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
    # A row stands in the batch once for each prompt that reads it, and rows of heads of one make stand together.
    order = [i for group in _by_make(rows) for i in group]
    places = [(i, prompt) for i in order for prompt in rows[i].resident.prompts]
    batch = collate([row.encoded for row in rows], [i for i, _ in places], backbone.tokenizer.pad_token_id)
    batch = batch.to(backbone.device)
    hidden = backbone(
        batch.input_ids,
        batch.attention_mask,
        batch.token_type_ids,
        injection_of([prompt for _, prompt in places], backbone.device),
        every_layer=any(row.resident.head.every_layer for row in rows),
        share=True,
    )
    logits = dict(zip(order, _fetch(_answers(backbone, batch, hidden, [rows[i].resident for i in order])), strict=True))
    found = [logits[i] for i in range(len(rows))]
    return [one[: len(row.encoded)] if one.dim() == 2 else one for one, row in zip(found, rows, strict=True)]


def _by_make(rows: Sequence[Row]) -> list[list[int]]:
    """Numbers of the rows, those whose heads are of one make together, and of those the rows of one head."""
    makes: dict[Hashable, dict[int, list[int]]] = {}
    for i, row in enumerate(rows):
        makes.setdefault(row.resident.make, {}).setdefault(id(row.resident), []).append(i)
    return [[i for own in heads.values() for i in own] for heads in makes.values()]


def _answers(backbone: Backbone, batch: Batch, hidden: Tensor, owners: Sequence[Resident]) -> Iterator[Tensor]:
    """Logits per row, float32, from the heads of their owners; rows of a mixture are mixed.

    Args:
        backbone: that gave ``hidden``, as the batch has its rows.
        batch: of the rows, each once for each prompt of its owner.
        owners: per row.
    """
    start = 0
    for resident, same in _asked_together(owners):
        end = start + len(same) * len(resident.prompts)
        logits = head_logits(
            resident.head if len({id(one) for one in same}) == 1 else Stack([one.head for one in same]),
            backbone,
            hidden[start:end],
            batch.input_ids[start:end],
            batch.attention_mask[start:end],
            marks=None if batch.marks is None else batch.marks[start:end],
        )
        if resident.log_weights is not None:
            logits = mix(logits, resident.log_weights, resident.head.class_axis)
        yield from logits.float().unbind()
        start = end


def _asked_together(owners: Sequence[Resident]) -> Iterator[tuple[Resident, list[Resident]]]:
    """The first owner of each call of a head, and all whose rows it is called for."""
    for _, run in groupby(owners, key=lambda owner: (owner.make, owner.log_weights is None)):
        same = list(run)
        different = list({id(owner): owner.head for owner in same}.values())
        if same[0].log_weights is None and worth_stacking(different):
            yield same[0], same
        else:
            yield from ((owner, list(own)) for owner, own in groupby(same))


def write_rows(backbone: Backbone, rows: Sequence[Row]) -> list[Written]:
    """What is written for each row; one search for all that search alike."""
    alike: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    for i, row in enumerate(rows):
        assert isinstance(row.resident.task, WritingTask)
        alike.setdefault(tuple(settings_of(row.resident.task, backbone).items()), []).append(i)
    found: dict[int, Written] = {}
    for settings, numbers in alike.items():
        batch = collate([row.encoded for row in rows], numbers, backbone.tokenizer.pad_token_id).to(backbone.device)
        injection = injection_of([rows[i].resident.prompts[0] for i in numbers], backbone.device)
        ids = generate(backbone, batch.input_ids, batch.attention_mask, injection, **dict(settings))
        found.update(zip(numbers, texts_of(ids, backbone.tokenizer), strict=True))
    return [found[i] for i in range(len(rows))]


def injection_of(prompts: Sequence[Prompt], device: torch.device) -> Injection:
    """Each row its prompt, from a bank of those that occur, each once; prompts of one length are neighbours."""
    bank = sorted({id(prompt): prompt for prompt in prompts}.values(), key=lambda prompt: prompt.length)
    places = {id(prompt): place for place, prompt in enumerate(bank)}
    return Injection(bank, torch.tensor([places[id(prompt)] for prompt in prompts], device=device))


def _fetch(found: Iterable[Tensor]) -> list[Tensor]:
    """Tensors of any shapes on the CPU, in one transfer."""
    tensors = list(found)
    if tensors[0].device.type == "cpu":
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
