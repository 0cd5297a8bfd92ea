"""A matrix as keys and values: what all methods with a prefix at several layers have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from foreword.errors import MethodError
from foreword.injection import KeyValue, Prefix, Prompt, Site, SiteShape
from foreword.methods.base import PromptEncoder
from foreword.methods.making.reparameterization import MLP, Direct


class PrefixEncoder(PromptEncoder):
    """One matrix ``(P, 2 * sum over sites of H * E)``, cut into keys and values per site.

    Args:
        prompt: makes the matrix; `prefix_columns` tells how wide.
        sites: the sites this prompt covers.
        dropout: probability with which single numbers are dropped while training.
        gated: whether every query head learns how much of the prefix it takes, from 0 on.
        shift_positions, infix: as in `Prompt`.
    """

    def __init__(
        self,
        prompt: Direct | MLP,
        sites: Mapping[Site, SiteShape],
        *,
        dropout: float = 0.0,
        gated: bool = False,
        shift_positions: bool = False,
        infix: bool = False,
    ) -> None:
        super().__init__()
        self.sites = dict(sites)
        self.shift_positions, self.infix = shift_positions, infix
        self.prompt = prompt
        self.gate = nn.Parameter(torch.zeros(sum(shape.query_heads for shape in sites.values()))) if gated else None
        self.dropout = nn.Dropout(dropout)

    def forward(self) -> Prompt:
        """Keys and values ``(H, P, E)`` per site, with dropout while training."""
        prefix: dict[Site, KeyValue] = {}
        for site, key, value, gate in self._cut(self.dropout(self.prompt())):
            prefix[site] = KeyValue(self._by_head(key, site), self._by_head(value, site), gate)
        return Prompt(prefix, shift_positions=self.shift_positions, infix=self.infix)

    def start_from(self, prompt: Prompt) -> None:
        """Take keys, values and gates at the sites that both prompts cover."""
        self._check_kind(prompt)
        self.start_at(prompt.prefix)

    @torch.no_grad()
    def start_at(self, prefix: Prefix) -> None:
        """Make the numbers of ``prefix`` come out, as far as it covers the sites and the positions.

        Nothing is done where there are no numbers, as in a `Blueprint`.
        """
        matrix = self.prompt().detach().clone()
        if matrix.is_meta or any(pair.key.is_meta for pair in prefix.values()):
            return
        for site, *parts, gate in self._cut(matrix):
            given = prefix.get(site)
            if given is None:
                continue
            for part, source in zip(parts, given[:2], strict=True):
                rows = source.transpose(0, 1).flatten(1)[: len(part)]  # (P, H * E)
                part[: len(rows)].copy_(rows)
            if gate is not None and given.gate is not None:
                gate.copy_(given.gate)
        self.prompt.start(matrix)

    def _cut(self, matrix: Tensor) -> Iterator[tuple[Site, Tensor, Tensor, Tensor | None]]:
        """Views of ``matrix`` and of the gates by site: keys and values ``(P, H * E)``, gate ``(query heads,)``."""
        shapes = self.sites.values()
        widths = [shape.heads * shape.head_size for shape in shapes for _ in range(2)]
        pieces = iter(torch.split(matrix, widths, dim=1))
        gates = None if self.gate is None else iter(torch.split(self.gate, [shape.query_heads for shape in shapes]))
        for site in self.sites:
            yield site, next(pieces), next(pieces), None if gates is None else next(gates)

    def _by_head(self, part: Tensor, site: Site) -> Tensor:
        """``(P, H * E)`` as ``(H, P, E)``."""
        shape = self.sites[site]
        return part.reshape(-1, shape.heads, shape.head_size).transpose(0, 1)

    def _check_kind(self, prompt: Prompt) -> None:
        """Refuse a prompt of which something would be lost, or read otherwise than it was trained to be."""
        if prompt.inputs is not None or not prompt.prefix:
            raise MethodError("a prefix cannot start from a prompt that stands among the input embeddings")
        common = self.sites.keys() & prompt.prefix.keys()
        if not common:
            covered, wanted = (", ".join(map(str, sites)) for sites in (prompt.prefix, self.sites))
            raise MethodError(f"the prompt to start from covers {covered}, and this one {wanted}: nothing in common")
        for site in sorted(common):
            shape, key = self.sites[site], prompt.prefix[site].key
            if (shape.heads, shape.head_size) != (key.shape[0], key.shape[2]):
                raise MethodError(
                    f"the prompt to start from has {key.shape[0]} heads of {key.shape[2]} numbers at {site}, "
                    f"the backbone {shape.heads} of {shape.head_size}"
                )
        gated = any(prompt.prefix[site].gate is not None for site in common)
        for what, theirs, ours in (
            ("a gate", gated, self.gate is not None),
            ("shifted positions", prompt.shift_positions, self.shift_positions),
            ("the place of an infix", prompt.infix, self.infix),
        ):
            if theirs != ours:
                has, lacks = ("the one to start from", "this one") if theirs else ("this one", "the one to start from")
                raise MethodError(f"these prompts are of two kinds: {has} has {what}, {lacks} has not")


def prefix_columns(sites: Mapping[Site, SiteShape]) -> int:
    """Numbers per prompt position of keys and values at all of ``sites``."""
    return 2 * sum(shape.heads * shape.head_size for shape in sites.values())
