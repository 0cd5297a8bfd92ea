"""From encoded rows to padded batches of similar lengths."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""Target value that no loss counts."""
SIMILAR = 0.9
"""Least length of a row over that of the longest which it shares batches with, where there are enough such rows."""
WRITTEN = "written"
"""Name of the targets that are the token ids of a text to be written, the one that closes it among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One row for the backbone: an example, or one window of it.

    Attributes:
        input_ids: token ids, special tokens included.
        token_type_ids: segment numbers, for families that have them.
        targets: name -> one number, one per token, one per label, or those of a text to be `WRITTEN`.
        offsets: character span of each token in the text that is read back, ``(0, 0)`` elsewhere.
        reads: per token, whether it belongs to the text that is read back.
        words: for tagging, ``(word, token)`` pairs this row answers for.
        marks: per token, the number of the marked stretch it belongs to, counted from 1; 0 elsewhere. For heads
            that read certain words, such as a predicate or the two words of a pair.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None = None
    targets: Mapping[str, int | float | list[int]] = field(default_factory=dict)
    offsets: Sequence[tuple[int, int]] = ()
    reads: Sequence[bool] = ()
    words: Sequence[tuple[int, int]] = ()
    marks: Sequence[int] = ()

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.input_ids)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded to one length.

    Attributes:
        input_ids: ``(B, T)`` int64.
        attention_mask: ``(B, T)`` int64, 1 for real tokens.
        token_type_ids: ``(B, T)`` int64 or None.
        targets: name -> ``(B,)`` int64, or float32 where they are no whole numbers; ``(B, T)``, ``(B, C)``, or
            ``(B, U)`` where they are `WRITTEN`, int64, padded with `IGNORED`; those that every row has.
        indices: which encoded rows these are.
        marks: ``(B, T)`` int64, numbers of marked stretches, 0 elsewhere and at padding; None where no row has any.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor | None
    targets: Mapping[str, Tensor]
    indices: tuple[int, ...]
    marks: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device), self.indices)

    def repeated(self, times: int) -> Batch:
        """The batch in which every row stands ``times`` times, one behind the other."""
        indices = tuple(index for index in self.indices for _ in range(times))
        return self._map(lambda tensor: tensor.repeat_interleave(times, dim=0), indices)

    def _map(self, change: Callable[[Tensor], Tensor], indices: tuple[int, ...]) -> Batch:
        return Batch(
            change(self.input_ids),
            change(self.attention_mask),
            None if self.token_type_ids is None else change(self.token_type_ids),
            {name: change(target) for name, target in self.targets.items()},
            indices,
            None if self.marks is None else change(self.marks),
        )


def collate(rows: Sequence[Encoded], indices: Sequence[int], pad_id: int) -> Batch:
    """Pad ``rows[i] for i in indices`` on the right to their longest.

    Args:
        rows: all encoded rows.
        indices: the rows of this batch.
        pad_id: the tokenizer's padding id.
    """
    chosen = [rows[i] for i in indices]
    length = max(len(row) for row in chosen)

    def padded(values: Sequence[Sequence[int]], fill: int, to: int = length) -> Tensor:
        return torch.tensor([[*value, *[fill] * (to - len(value))] for value in values])

    targets: dict[str, Tensor] = {}
    for name, first in chosen[0].targets.items():
        if any(name not in row.targets for row in chosen):
            continue  # nothing to learn here: some rows have no label, as in files to predict on
        values: list[Any] = [row.targets[name] for row in chosen]
        listed = isinstance(first, list)
        targets[name] = padded(values, IGNORED, max(map(len, values))) if listed else torch.tensor(values)
    types = [row.token_type_ids for row in chosen]
    return Batch(
        input_ids=padded([row.input_ids for row in chosen], pad_id),
        attention_mask=padded([[1] * len(row) for row in chosen], 0),
        token_type_ids=None if all(t is None for t in types) else padded([t or [] for t in types], 0),
        targets=targets,
        indices=tuple(indices),
        marks=padded([row.marks for row in chosen], 0) if any(row.marks for row in chosen) else None,
    )


def joined(batches: Sequence[Batch], pad_id: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Ids, mask and segment numbers of several batches below one another, padded on the right to the longest.

    Args:
        batches: of rows for one backbone.
        pad_id: the tokenizer's padding id.
    """
    longest = max(batch.input_ids.shape[1] for batch in batches)

    def stacked(values: Sequence[Tensor], fill: int) -> Tensor:
        wide = [torch.cat([one, one.new_full((len(one), longest - one.shape[1]), fill)], dim=1) for one in values]
        return torch.cat(wide)

    types = [batch.token_type_ids for batch in batches]
    known = [torch.zeros_like(b.input_ids) if t is None else t for b, t in zip(batches, types, strict=True)]
    return (
        stacked([batch.input_ids for batch in batches], pad_id),
        stacked([batch.attention_mask for batch in batches], 0),
        None if all(t is None for t in types) else stacked(known, 0),
    )


def bucketed_batches(
    lengths: Sequence[int],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    pool_batches: int = 50,
    groups: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Shuffled batches whose rows have similar lengths.

    Rows are shuffled, cut into pools, sorted by length inside each pool, cut into batches, and the
    batches shuffled. The result depends on the arguments alone, so a run can resume inside an epoch.

    Args:
        lengths: tokens per row.
        batch_size: rows per batch, or groups where there are some; only the last may be smaller.
        seed, epoch: of the run.
        pool_batches: batches per pool; more means less padding and less mixing.
        groups: rows that must stand in one batch, next to each other and in this order; each row alone if None.
    """
    if groups is not None:
        longest = [max(lengths[i] for i in group) for group in groups]
        chosen = bucketed_batches(longest, batch_size, seed=seed, epoch=epoch, pool_batches=pool_batches)
        return [[i for number in batch for i in groups[number]] for batch in chosen]
    generator = random.Random(f"{seed}/{epoch}")
    order = list(range(len(lengths)))
    generator.shuffle(order)
    pool = batch_size * pool_batches
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        rows = sorted(order[start : start + pool], key=lambda i: lengths[i])
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    generator.shuffle(batches)
    return batches


def token_batches(
    lengths: Sequence[int],
    most_tokens: int,
    *,
    seed: int,
    epoch: int,
    groups: Sequence[Sequence[int]] | None = None,
) -> list[list[int]]:
    """Shuffled batches of as many rows as fit, whose lengths are similar.

    Rows are sorted by length and cut into classes (`_classes`). In every epoch the rows of a class are shuffled and cut
    into batches, and all batches shuffled. Their number follows from the lengths alone, so epochs are alike.

    Args:
        lengths: tokens per row.
        most_tokens: most positions per batch, padding included. What is larger by itself is a batch.
        seed, epoch: of the run.
        groups: rows that must stand in one batch, next to each other and in this order; each row alone if None. A
            batch has groups of equally many rows.
    """
    units: Sequence[Sequence[int]] = [(i,) for i in range(len(lengths))] if groups is None else groups
    longest = [max(lengths[i] for i in unit) for unit in units]
    generator = random.Random(f"{seed}/{epoch}")
    batches: list[list[int]] = []
    for rows in sorted({len(unit) for unit in units}):
        order = [number for number, unit in enumerate(units) if len(unit) == rows]
        generator.shuffle(order)  # decides among equal lengths which class they are of
        order.sort(key=lambda number: -longest[number])
        for part, size in _classes([longest[number] for number in order], most_tokens // rows):
            members = order[part]
            generator.shuffle(members)
            batches += [members[i : i + size] for i in range(0, len(members), size)]
    generator.shuffle(batches)
    return [[i for number in batch for i in units[number]] for batch in batches]


def _classes(lengths: Sequence[int], most_tokens: int) -> Iterator[tuple[slice, int]]:
    """Cut lengths, the longest first, into classes: whole batches of rows that are `SIMILAR`, one batch at least.

    Yields:
        Where a class stands, and how many of its rows make a batch; only the very last batch may be smaller.
    """
    start = 0
    while start < len(lengths):
        size = max(1, most_tokens // lengths[start])
        similar = bisect_right(lengths, -SIMILAR * lengths[start], lo=start, key=lambda length: -length) - start
        end = start + max(similar - similar % size, size)
        yield slice(start, end), size
        start = end


def sorted_batches(
    lengths: Sequence[int], batch_size: int, *, most_tokens: int | None = None, rows: Sequence[int] | None = None
) -> Iterator[list[int]]:
    """Batches in order of length, for evaluation, where order does not matter.

    Args:
        lengths: tokens per row, or of the longest row of an item.
        batch_size: most rows per batch.
        most_tokens: most positions per batch, padding included; without a limit if None.
        rows: how many each item has, which stay together; one if None. An item that is too large by itself is a batch.
    """
    batch, taken = list[int](), 0
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        own = 1 if rows is None else rows[i]
        full = taken + own > batch_size or (most_tokens is not None and (taken + own) * lengths[i] > most_tokens)
        if batch and full:
            yield batch
            batch, taken = [], 0
        batch.append(i)
        taken += own
    if batch:
        yield batch


def padding_ratio(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Share of positions that are padding, in [0, 1)."""
    real = sum(lengths[i] for batch in batches for i in batch)
    total = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    return 1 - real / total if total else 0.0
