"""What stands before the tokens: prompts, gathered per row of a batch.

A *method* makes a `Prefix`: keys and values for some attention sites of a backbone, for one
task. An `Injection` is a *bank* of such prefixes and, for each row of a batch, the index of the
prefix it reads. A mixed-task batch, an ensemble and ordinary training differ only in those indices.

Axis letters, here and everywhere: B rows, T text positions, P prompt positions, K prompts in a
bank, N layers, H key/value heads, D hidden size, E size of one head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Site(NamedTuple):
    """One place in a backbone where attention can read a prefix."""

    stack: str  # "encoder"; later also "decoder" and "cross"
    layer: int  # counted from 0 at the input

    def __str__(self) -> str:
        return f"{self.stack}.{self.layer}"

    @classmethod
    def parse(cls, text: str) -> Site:
        """The site that ``str(site)`` wrote."""
        stack, layer = text.rsplit(".", 1)
        return cls(stack, int(layer))


class SiteShape(NamedTuple):
    """Sizes a prefix must have at one site."""

    heads: int  # key/value heads, fewer than query heads under grouped-query attention
    head_size: int


class KeyValue(NamedTuple):
    """Keys and values of one prompt at one site, each ``(H, P, E)``."""

    key: Tensor
    value: Tensor


Prefix = Mapping[Site, KeyValue]
"""One task's prompt, ready to be read by attention. All sites have the same P."""


class SitePrefix(NamedTuple):
    """What attention reads at one site for one batch.

    Attributes:
        key, value: ``(B or 1, H, P, E)``; 1 when all rows share one prompt.
        visible: ``(B, P)`` bool, False where a shorter prompt was padded; None when all is visible.
    """

    key: Tensor
    value: Tensor
    visible: Tensor | None


@dataclass(frozen=True)
class Injection:
    """A bank of K prefixes and the one each row of a batch reads.

    Attributes:
        bank: the prefixes. They may differ in length and in the sites they cover.
        rows: ``(B,)`` int64 indices into the bank, or None when every row reads prefix 0.
    """

    bank: Sequence[Prefix]
    rows: Tensor | None = None

    @property
    def sites(self) -> frozenset[Site]:
        """Every site that some prefix of the bank covers."""
        return frozenset(site for prefix in self.bank for site in prefix)

    def at(self, site: Site) -> SitePrefix | None:
        """Gather what each row reads at ``site``.

        Returns:
            None when no prefix of the bank covers the site. A row whose own prefix does not
            cover it sees only hidden positions there, that is: nothing.
        """
        if len(self.bank) == 1:
            pair = self.bank[0].get(site)
            return None if pair is None else SitePrefix(pair.key[None], pair.value[None], None)
        pairs = [prefix.get(site) for prefix in self.bank]
        present = [pair for pair in pairs if pair is not None]
        if not present:
            return None
        if self.rows is None:
            raise ValueError("a bank of several prefixes needs the row indices of the batch")
        longest = max(pair.key.shape[1] for pair in present)
        lengths = torch.tensor([0 if pair is None else pair.key.shape[1] for pair in pairs])
        blank = present[0].key.new_zeros(present[0].key.shape[0], 0, present[0].key.shape[2])
        keys = _stack_padded([blank if pair is None else pair.key for pair in pairs], longest)
        values = _stack_padded([blank if pair is None else pair.value for pair in pairs], longest)
        rows = self.rows.to(keys.device)
        visible = None
        if int(lengths.min()) < longest:
            visible = (torch.arange(longest) < lengths[:, None]).to(keys.device)[rows]  # (B, P)
        return SitePrefix(keys[rows], values[rows], visible)


def _stack_padded(tensors: Sequence[Tensor], length: int) -> Tensor:
    """Stack ``(H, p_k, E)`` tensors into ``(K, H, length, E)``, zeros behind the shorter ones."""
    padded = [torch.nn.functional.pad(t, (0, 0, 0, length - t.shape[1])) for t in tensors]
    return torch.stack(padded)
