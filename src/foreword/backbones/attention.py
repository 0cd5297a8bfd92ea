"""The attention seam: one attention function that puts a prefix in front of any layer's keys.

`transformers` routes the attention of nearly every architecture through its attention interface.
Foreword registers one more function there. It is handed the call's `PrefixCall` as an ordinary
keyword that the model passes down to its attention layers, so nothing is patched, no global state
says which prompt is active, and gradient checkpointing recomputes with the same prompt.

Source: Li & Liang 2021, section 4; Liu et al. 2022 (P-Tuning v2), section 3.2. Unlike the authors'
code the prefix is not a cache, so text positions keep their own numbers (no shift by P, unless the
prompt asks for it) and no length is taken from the text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from foreword.attachment import active_again
from foreword.backbones.branching import Branching
from foreword.backbones.cpu_attention import attend_in_chunks, suits, to_be_added
from foreword.backbones.packing import Packing
from foreword.injection import Injection, KeyValue, Prefix, Site, SitePrefix, SiteShape

NAME = "foreword"
KEYWORD = "foreword_call"
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

    def packed(self, packing: Packing) -> Entry:
        """The same without padding."""
        return Entry(self.layer, packing.packed(self.states), {n: packing.packed(one) for n, one in self.below.items()})


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
        self.dropout = dropout
        self.slots, self.sources, self.past, self.recompute = slots, sources, past, recompute
        self.branching, self._all, self._level = branching, (injection, slots, sources), -1
        self._turns: Counter[nn.Module] = Counter()
        self._masks: dict[int, tuple[Tensor, Tensor | None, Tensor]] = {}
        self._added: tuple[Tensor, Tensor] | None = None

    @property
    def watches(self) -> bool:
        """Whether it is to be told what layers are given."""
        return not (self.slots is None and self.kept is None and self.branching is None and self.until is None)

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
        """What a layer is given, ``(B, S, D)``, with the deltas of the input prompts added at their places."""
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


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention over ``[prefix; text]``.

    Args:
        module: the attention layer that calls, which tells the site.
        query: ``(B, heads, T, E)``.
        key, value: ``(B, H, S, E)`` of the text, a generation's cache included.
        attention_mask: ``(B, 1, T, S)`` or None when nothing is hidden but what causality hides.
        **kwargs: what the layer passes on, our `PrefixCall` among it.

    Returns:
        ``(B, T, heads, E)`` and None for the weights, which are never formed.
    """
    call: PrefixCall | None = kwargs.pop(KEYWORD, None)
    if call is None:
        return _attend(module, query, key, value, attention_mask, **kwargs)
    if call.packing is None:
        return _read_prefix(module, query, key, value, attention_mask, call=call, **kwargs), None
    # (1, H, N, E) of all rows behind each other: here each has its own keys
    query, key, value = (call.packing.spread(one.transpose(1, 2)).transpose(1, 2) for one in (query, key, value))
    out = _read_prefix(module, query, key, value, call.packing.attention_mask, call=call, **kwargs)
    return call.packing.packed(out), None


def _read_prefix(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    call: PrefixCall,
    **kwargs: Any,
) -> Tensor:
    """`prefix_attention` in a known call: ``(B, T, heads, E)``."""
    kwargs["call"] = call
    kwargs["dropout"] = call.dropout if module.training else 0.0
    prefix = call.prefix_at(module, query, key, value)
    if prefix is None:
        return _attend(module, query, key, value, attention_mask, **kwargs)[0]
    if attention_mask is None:
        attention_mask = _causal_mask(module, query, key, call.past, kwargs)
    beside = None
    if prefix.gate is not None:
        beside = _gated(module, query, prefix, **kwargs)
        prefix = _ungated(prefix)
    prefix = call.behind_the_text(prefix, query)
    rows, length = key.shape[0], prefix.key.shape[2]
    if attention_mask is None and prefix.visible is not None:
        attention_mask = query.new_ones((rows, 1, query.shape[2], key.shape[2]), dtype=torch.bool)
    if attention_mask is not None:
        attention_mask = call.mask(attention_mask, prefix)
    key = torch.cat([prefix.key.to(key.dtype).expand(rows, -1, -1, -1), key], dim=2)
    value = torch.cat([prefix.value.to(value.dtype).expand(rows, -1, -1, -1), value], dim=2)
    if kwargs.get("position_bias") is not None:  # T5's: a prefix stands nowhere, so it has none
        kwargs["position_bias"] = nn.functional.pad(kwargs["position_bias"], (length, 0))
    kwargs["is_causal"] = False  # said by the mask, since every query sees the whole prefix
    out, _ = _attend(module, query, key, value, attention_mask, **kwargs)
    return out if beside is None else out + beside


def _causal_mask(module: nn.Module, query: Tensor, key: Tensor, past: int, kwargs: Mapping[str, Any]) -> Tensor | None:
    """The mask that a causal layer means by giving none; a cache of fixed size has keys that are yet to come."""
    new, all_ = query.shape[2], key.shape[2]
    if new == 1 or not _is_causal(module, kwargs):
        return None
    return torch.ones((1, 1, new, all_), dtype=torch.bool, device=query.device).tril(past)


def _gated(module: nn.Module, query: Tensor, prefix: SitePrefix, **kwargs: Any) -> Tensor:
    """What a gated prefix adds, ``(B, T, heads, E)``: its own softmax, times tanh of the gate.

    Source: Zhang et al. 2023 (LLaMA-Adapter), section 3.2, per head.
    """
    rows = query.shape[0]
    key, value = (part.to(query.dtype).expand(rows, -1, -1, -1) for part in (prefix.key, prefix.value))
    mask = None
    if prefix.visible is not None:
        # A row that reads nothing here sees one position all the same, lest its softmax be over nothing.
        none = ~prefix.visible.any(1, keepdim=True)
        mask = (prefix.visible | none)[:, None, None, :].expand(rows, 1, query.shape[2], -1)
    kwargs |= {"position_bias": None, "is_causal": False, "call": None}
    read, _ = _attend(module, query, key, value, mask, **kwargs)
    assert prefix.gate is not None
    return read * torch.tanh(prefix.gate).to(read.dtype)[:, None, :, None]


def _ungated(prefix: SitePrefix) -> SitePrefix:
    """The same prefix, hidden from the softmax of the text in every row that has a gate."""
    assert prefix.gated is not None
    shape = (prefix.gated.shape[0], prefix.key.shape[2])
    visible = (
        torch.ones(shape, dtype=torch.bool, device=prefix.key.device) if prefix.visible is None else prefix.visible
    )
    return SitePrefix(prefix.key, prefix.value, visible & ~prefix.gated[:, None])


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    call: PrefixCall | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers has it, the quicker way where there is one (`cpu_attention`).

    What is left to it in bfloat16 on a CPU, if gradients are wanted, is computed in float32: it is up to three times as
    slow in bfloat16 (benchmarks/cpu_kernels.py).
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):  # rotations leave some of them in float32
        query, key, value = (one.to(torch.get_autocast_dtype("cpu")) for one in (query, key, value))
    dropout = kwargs.get("dropout", 0.0)
    causal = mask is None and query.shape[2] > 1 and _is_causal(module, kwargs)
    plain = not causal and all(kwargs.get(name) is None for name in ("position_bias", "softcap", "cache"))
    if plain and suits(query, key, mask, dropout):
        if mask is not None:
            mask = to_be_added(mask, query.dtype) if call is None else call.added(mask, query.dtype)
        lengths = None if call is None or call.packing is None else call.packing.lengths
        out = attend_in_chunks(query, key, value, mask, scaling=kwargs.get("scaling"), dropout=dropout, lengths=lengths)
        return out, None
    if not (query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled()):
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)  # type: ignore[no-any-return]
    if mask is not None and mask.is_floating_point():
        mask = mask.float()
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = kwargs["position_bias"].float()
    with torch.autocast("cpu", enabled=False):
        out, _ = sdpa_attention_forward(module, query.float(), key.float(), value.float(), mask, **kwargs)
    return out.to(query.dtype), None


def _is_causal(module: nn.Module, kwargs: Mapping[str, Any]) -> bool:
    """Whether a layer that gives no mask means that no position sees those behind it."""
    causal = kwargs.get("is_causal")
    return bool(getattr(module, "is_causal", True) if causal is None else causal)


class Found(NamedTuple):
    """One turn of an attention module in a model's forward pass.

    Attributes:
        module: the attention module.
        shape: sizes of the prefix it could read.
        queries, keys: how many there were, which tells self-attention from attention to another stack.
        key, value: those of the text, ``(H, S, E)``, of the first row.
    """

    module: nn.Module
    shape: SiteShape
    queries: int
    keys: int
    key: Tensor
    value: Tensor


class Probe(PrefixCall):
    """Stands in for a `PrefixCall` to learn which modules attend, in what shape, and to what."""

    def __init__(self) -> None:
        super().__init__({}, None)
        self.found: list[Found] = []

    def prefix_at(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Note the call; nothing is read."""
        shape = SiteShape(key.shape[1], key.shape[3], query.shape[1])
        self.found.append(Found(module, shape, query.shape[2], key.shape[2], key[0].detach(), value[0].detach()))

    def activations(self, sites: Sequence[Site]) -> Prefix:
        """Keys and values of the text that ran, by site."""
        return {site: KeyValue(one.key.clone(), one.value.clone()) for site, one in zip(sites, self.found, strict=True)}


AttentionInterface.register(NAME, prefix_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
