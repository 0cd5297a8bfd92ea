"""The call: what the attention layers, and the layers around them, need to know in one forward pass.

It travels through the model as an ordinary keyword (`backbones/attention.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from foreword.attachment import active_again
from foreword.backbones.branching import Branching
from foreword.backbones.cpu_attention import to_be_added
from foreword.backbones.packing import Packing
from foreword.injection import Injection, Site, SitePrefix

LayerT = TypeVar("LayerT")


class Entry(NamedTuple):
    """What is known of a pass before it runs: it begins at a layer above the first.

    Attributes:
        layer: number of that layer; N where nothing is left to run.
        states: ``(B, S, D)``, what enters it.
        below: number of a layer -> ``(B, S, D)``, what entered those before it, where that is wanted.
    """

    layer: int
    states: Tensor
    below: Mapping[int, Tensor]

    def arranged(self, arrange: Callable[[Tensor], Tensor]) -> Entry:
        """The same with its positions where the function puts them."""
        return Entry(self.layer, arrange(self.states), {n: arrange(one) for n, one in self.below.items()})


class Reached(Exception):  # noqa: N818  an event, not a mistake
    """A pass has come to the layer that it was to run up to.

    Args:
        hidden: ``(B, S, D)``, what enters that layer.
    """

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden


class PrefixCall:
    """What the attention layers of one forward pass need to know.

    Args:
        sites: which sites each attention module is, in the order of its turns; one module has several
            where layers share their weights.
        injection: the prompts of the batch, or None for the bare backbone.
        dropout: attention dropout while training, whatever the checkpoint's own setting.
        slots: ``(B, P)`` places of the input prompt in the sequence, for prompts with layer deltas.
        sources: ``(B,)`` length of the given text including its padding, for infix prompts.
        past: positions that a generation's cache holds, before the first one that asks.
        recompute: whether layers that a family runs itself keep no activations for the backward pass.
        keep: whether to keep what every layer of the first stack is given.
        branching: which rows of the batch share layers of the first stack, if some do.
        entry: where the first stack begins, if not at its first layer.
        until: number of the layer of the first stack to run up to, which ends the pass (`Reached`); None runs all.
        packing: where the tokens of all rows are, if they stand in one long row without padding.

    Attributes:
        kept: number of a layer -> hidden states ``(B, S, D)`` it was given; None where nothing is kept.
    """

    def __init__(
        self,
        sites: Mapping[nn.Module, Sequence[Site]],
        injection: Injection | None,
        dropout: float = 0.0,
        *,
        slots: Tensor | None = None,
        sources: Tensor | None = None,
        past: int = 0,
        recompute: bool = False,
        keep: bool = False,
        branching: Branching | None = None,
        entry: Entry | None = None,
        until: int | None = None,
        packing: Packing | None = None,
    ) -> None:
        self.kept: dict[int, Tensor] | None = dict(entry.below if entry else {}) if keep else None
        self.entry, self.until, self.packing = entry, until, packing
        self.sites = sites
        self.injection = injection
        self._modulates = injection is not None and injection.modulates
        self.dropout = dropout
        self.slots, self.sources, self.past, self.recompute = slots, sources, past, recompute
        self.branching, self._all, self._level = branching, (injection, slots, sources), -1
        self._turns: Counter[nn.Module] = Counter()
        self._masks: dict[int, tuple[Tensor, Tensor | None, Tensor]] = {}
        self._added: tuple[Tensor, Tensor] | None = None

    @property
    def watches(self) -> bool:
        """Whether it is to be told what layers are given."""
        told = (self.slots, self.kept, self.branching, self.until)
        return self._modulates or any(one is not None for one in told)

    def prefix_at(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> SitePrefix | None:
        """What the attention ``module`` reads before its keys, in the turn it is having.

        Args:
            module: of this backbone.
            query: ``(B, query heads, T, E)``.
            key, value: ``(B, H, S, E)`` of the text; shapes only are of interest here.
        """
        del query, key, value
        return None if self.injection is None else self.injection.at(self.site_of(module))

    def site_of(self, module: nn.Module) -> Site:
        """The site that ``module`` is in this turn, which ends with the question."""
        site = self.coming_site(module)
        if len(self.sites[module]) > 1:
            self._turns[module] += 1
        return site

    def take_turn(self, module: nn.Module, turn: int) -> None:
        """Let the next question of ``module`` be that of its ``turn``-th turn, counted from 0."""
        self._turns[module] = turn

    def coming_site(self, module: nn.Module) -> Site:
        """The site that ``module`` will be when it is asked next."""
        sites = self.sites[module]
        return sites[0] if len(sites) == 1 else sites[self._turns[module] % len(sites)]

    def branched(self, layer: int, *given: Any) -> tuple[Any, ...]:
        """What a layer is given, for the rows that run from it on; prompts and places are theirs from here on."""
        if self.branching is None:
            return given
        level = self.branching.level(layer)
        if level != self._level:
            self._level, rows = level, self.branching.rows[level]
            injection, *places = self._all
            self.injection = injection and injection.selected(rows)
            self.slots, self.sources = (None if place is None else place[rows] for place in places)
        return tuple(self.branching.grown(one, level) for one in given)

    def whole(self, hidden: Tensor) -> Tensor:
        """Hidden states of the rows that run, for all rows of the batch: ``(B, S, D)``."""
        return hidden if self.branching is None else self.branching.whole(hidden)

    def entering(self, hidden: Tensor, layer: int) -> Tensor:
        """What a layer is given, ``(B, S, D)``, modulated, with the deltas of the input prompts at their places."""
        hidden = self._modulated(hidden, layer)
        delta = None if self.injection is None or self.slots is None else self.injection.deltas(layer)
        if delta is not None and self.slots is not None:
            rows, places = self.slots.shape
            delta = delta.to(hidden.dtype).expand(rows, -1, -1)
            hidden = hidden.scatter_add(1, self.slots[:, :, None].expand(rows, places, hidden.shape[-1]), delta)
        if self.kept is not None:
            self.kept[layer] = hidden
        if layer == self.until:
            raise Reached(hidden)
        return hidden

    def _modulated(self, hidden: Tensor, layer: int) -> Tensor:
        """Hidden states ``(B, S, D)``, or of a packed batch ``(1, N, D)``, as the prompt of each row changes them."""
        found = self.injection.modulation(layer) if self._modulates and self.injection is not None else None
        if found is None:
            return hidden
        scale, shift = (part.to(hidden.dtype) for part in found)
        if self.packing is None or len(scale) == 1:
            scale, shift = scale[:, None], shift[:, None]
        else:
            scale, shift = (part.index_select(0, self.packing.rows)[None] for part in (scale, shift))
        return torch.addcmul(hidden + shift, hidden, scale)

    def running(self, layers: Iterable[LayerT], hidden: Tensor) -> tuple[Tensor, list[tuple[int, LayerT]]]:
        """For families that go through their layers themselves: what the first that runs is given, and who runs.

        Args:
            layers: of the stack, in order.
            hidden: what the embeddings gave.

        Returns:
            Hidden states, and the layers with their numbers.
        """
        if self.entry is None:
            return hidden, list(enumerate(layers))
        return self.entry.states, list(enumerate(layers))[self.entry.layer :]

    def side_by_side(self, hidden: Tensor) -> Tensor:
        """What was kept of every layer and, last, ``hidden``, for all rows of the batch: ``(B, S, (N + 1) D)``.

        Nothing is kept from here on. All but the last are normalized without weights, since some families leave it to
        the very end.
        """
        assert self.kept is not None
        states = [nn.functional.layer_norm(self.kept[layer], hidden.shape[-1:]) for layer in sorted(self.kept)]
        self.kept = None  # layers that are computed again in the backward pass have nothing to tell
        return torch.cat([self.whole(state.to(hidden.dtype)) for state in [*states, hidden]], dim=-1)

    def through(self, layer: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
        """What ``layer`` makes of ``hidden``; made a second time in the backward pass where that is asked for."""
        if not (self.recompute and torch.is_grad_enabled()):
            return layer(hidden)
        out: Tensor = checkpoint(layer, hidden, use_reentrant=False, context_fn=active_again)
        return out

    def behind_the_text(self, prefix: SitePrefix, query: Tensor) -> SitePrefix:
        """``prefix``, hidden from the given text but its last position in rows whose prompt is an infix."""
        if self.sources is None or self.injection is None or not any(p.infix for p in self.injection.bank):
            return prefix
        device, places = query.device, torch.arange(self.past, self.past + query.shape[2], device=query.device)
        infix = self.injection.flags(lambda prompt: int(prompt.infix), device).bool()  # (B or 1,)
        late = places >= self.sources.to(device)[:, None] - 1  # (B, T)
        read = (late | ~infix[:, None])[:, :, None].expand(-1, -1, prefix.key.shape[2])
        visible = read if prefix.visible is None else read & prefix.visible[:, None]
        return SitePrefix(prefix.key, prefix.value, visible)

    def mask(self, mask: Tensor, prefix: SitePrefix) -> Tensor:
        """``mask`` with P columns in front, open where the prefix is visible.

        The layers of one pass share mask and prompt lengths, so the result is made once.
        """
        length, visible = prefix.key.shape[2], prefix.visible
        known = self._masks.get(length)
        if known is not None and known[0] is mask and known[1] is visible:
            return known[2]
        extended = extend_mask(mask, length, visible)
        self._masks[length] = (mask, visible, extended)
        return extended

    def added(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """``mask`` as `to_be_added`; layers share it."""
        if self._added is None or self._added[0] is not mask:
            self._added = mask, to_be_added(mask, dtype)
        return self._added[1]


def extend_mask(mask: Tensor, length: int, visible: Tensor | None) -> Tensor:
    """Put ``length`` prefix columns in front of an attention mask.

    Args:
        mask: ``(B, 1 or H, T, S)``, boolean (True = may attend) or additive.
        length: P, columns to add.
        visible: ``(B, P)`` or ``(B, T, P)`` bool, or None when every row sees the whole prefix.

    Returns:
        ``(B, 1 or H, T, P + S)`` of the same dtype.
    """
    if mask.shape[2] > 1 and mask.stride(2) == 0 and (visible is None or visible.dim() == 2):
        # One row for all queries is made once for all queries.
        return extend_mask(mask[:, :, :1], length, visible).expand(-1, -1, mask.shape[2], -1)
    if visible is not None:
        visible = visible[:, None, None, :] if visible.dim() == 2 else visible[:, None]
        rows = max(visible.shape[0], mask.shape[0])  # either may be one for all
        shape = (rows, *mask.shape[1:-1], length)
        mask = mask.expand(rows, *mask.shape[1:])
    else:
        shape = (*mask.shape[:-1], length)
    if mask.dtype == torch.bool:
        front = mask.new_ones(shape) if visible is None else visible.expand(shape)
    else:
        front = mask.new_zeros(shape)
        if visible is not None:
            front = front.masked_fill(~visible, torch.finfo(mask.dtype).min)
    return torch.cat([front, mask], dim=-1)
