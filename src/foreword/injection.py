"""What stands before the tokens: prompts, gathered per row of a batch.

A *method* makes a `Prompt` for one task: keys and values for some attention sites of a backbone
(`Prefix`), vectors among its input embeddings (`InputPrompt`), or both. An `Injection` is a *bank*
of such prompts and, for each row of a batch, the index of the prompt it reads. A mixed-task batch,
an ensemble and ordinary training differ only in those indices.

Axis letters, here and everywhere: B rows, T text positions, P prompt positions, K prompts in a
bank, N layers, H key/value heads, D hidden size, E size of one head, W width of input embeddings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor


class Site(NamedTuple):
    """One place in a backbone where attention can read a prefix."""

    stack: str  # "encoder", "decoder" or "cross"
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
    query_heads: int


class KeyValue(NamedTuple):
    """Keys and values of one prompt at one site, each ``(H, P, E)``.

    Attributes:
        gate: ``(query heads,)`` or None. With a gate the prefix has a softmax of its own, and
            ``tanh(gate)`` times what it reads is added to what the text reads: 0 changes nothing.
    """

    key: Tensor
    value: Tensor
    gate: Tensor | None = None


class Modulation(NamedTuple):
    """A change of hidden states: h becomes ``h * (1 + scale) + shift``, both ``(D,)``; zeros change nothing."""

    scale: Tensor
    shift: Tensor


Prefix = Mapping[Site, KeyValue]
"""Keys and values of one task, ready to be read by attention. All sites have the same P."""


class Anchor(IntEnum):
    """Where in a row of text a vector of an input prompt goes. The numbers are written in artifacts."""

    FRONT = 0  # before the first token
    AFTER_FIRST = 1  # after the special token that opens a row, such as [CLS]; else before the text
    BETWEEN = 2  # after the separator that ends the first text of a pair
    BEFORE_MASK = 3
    AFTER_MASK = 4
    BEFORE_LAST = 5  # before the special token that closes a row, such as [SEP]; else after the text
    END = 6  # after the last token


@dataclass(frozen=True)
class InputPrompt:
    """Vectors that take places of their own among the embeddings of the text.

    Attributes:
        vectors: ``(P, W)``, as the backbone's own embedding layer would give them.
        anchors: P places; vectors with the same one stand there in their order here.
        deltas: layer -> ``(P, D)``, added to what the layer is given at the prompt's places
            (Qin & Eisner 2021, section 3.3).
    """

    vectors: Tensor
    anchors: tuple[Anchor, ...]
    deltas: Mapping[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.anchors) != self.vectors.shape[0]:
            raise ValueError(f"{self.vectors.shape[0]} vectors, but {len(self.anchors)} anchors")


@dataclass(frozen=True)
class Prompt:
    """All that one task puts before its tokens, and what it makes of them on their way.

    Attributes:
        prefix: what attention reads.
        inputs: what stands among the embeddings.
        modulations: layer of the first stack -> how what it is given is changed, at all positions (Lian et al. 2022).
        shift_positions: whether the text's positions begin after the prefix, as in the code of
            P-Tuning v2 and of HF PEFT, instead of at 0.
        infix: whether the prefix is read only from the last position of the given text on, as if it
            stood behind it (Li & Liang 2021, section 7.3). For decoders.
    """

    prefix: Prefix = field(default_factory=dict)
    inputs: InputPrompt | None = None
    shift_positions: bool = False
    infix: bool = False
    modulations: Mapping[int, Modulation] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.infix and any(pair.gate is not None for pair in self.prefix.values()):
            raise ValueError("a prefix with a gate cannot be an infix")

    @property
    def length(self) -> int:
        """P of the prefix, 0 where there is none."""
        return next((pair.key.shape[1] for pair in self.prefix.values()), 0)

    def map(self, change: Callable[[Tensor], Tensor]) -> Prompt:
        """The same prompt with every tensor changed, as by moving it to a device."""
        prefix = {
            site: KeyValue(change(key), change(value), None if gate is None else change(gate))
            for site, (key, value, gate) in self.prefix.items()
        }
        inputs = self.inputs and InputPrompt(
            change(self.inputs.vectors),
            self.inputs.anchors,
            {layer: change(delta) for layer, delta in self.inputs.deltas.items()},
        )
        modulations = {layer: Modulation(*map(change, pair)) for layer, pair in self.modulations.items()}
        return Prompt(prefix, inputs, self.shift_positions, self.infix, modulations)

    def with_prefix(self, dtype: torch.dtype) -> Prompt:
        """The same prompt with keys and values in another type, as attention between layers of that type reads them."""
        prefix = {
            site: KeyValue(key.to(dtype), value.to(dtype), gate) for site, (key, value, gate) in self.prefix.items()
        }
        return replace(self, prefix=prefix)


@dataclass(frozen=True)
class Mixture:
    """Prompts that each answer for themselves, and how much the answer of each counts.

    Every row is read once per prompt, and the probabilities that come of it are averaged.

    Attributes:
        prompts: K of them.
        log_weights: ``(K,)``, logarithms of weights that add up to 1.
    """

    prompts: tuple[Prompt, ...]
    log_weights: Tensor

    def __post_init__(self) -> None:
        if self.log_weights.shape != (len(self.prompts),):
            raise ValueError(f"{len(self.prompts)} prompts, but log weights {tuple(self.log_weights.shape)}")

    def map(self, change: Callable[[Tensor], Tensor]) -> Mixture:
        """The same mixture with every tensor changed, as by moving it to a device."""
        return Mixture(tuple(prompt.map(change) for prompt in self.prompts), change(self.log_weights))


class SitePrefix(NamedTuple):
    """What attention reads at one site for one batch.

    Attributes:
        key, value: ``(B or 1, H, P, E)``; 1 when all rows share one prompt.
        visible: ``(B, P)``, or ``(B, T, P)`` if it depends on who reads; False where a shorter prompt was
            padded; None when all is visible.
        gate: ``(B or 1, query heads)``, zero in rows without a gate; None when no row has one.
        gated: ``(B or 1,)`` bool, the rows with a gate; None with ``gate``.
    """

    key: Tensor
    value: Tensor
    visible: Tensor | None
    gate: Tensor | None = None
    gated: Tensor | None = None


class RowInputs(NamedTuple):
    """The input prompts of one batch, padded to the longest.

    Attributes:
        vectors: ``(B, P, W)``.
        anchors: ``(B, P)`` int64.
        visible: ``(B, P)`` bool, False where a shorter prompt was padded.
    """

    vectors: Tensor
    anchors: Tensor
    visible: Tensor


@dataclass(frozen=True)
class Injection:
    """A bank of K prompts and the one each row of a batch reads.

    Attributes:
        bank: the prompts. They may differ in kind, in length and in the sites they cover.
        rows: ``(B,)`` int64 indices into the bank, or None when every row reads prompt 0.
    """

    bank: Sequence[Prompt]
    rows: Tensor | None = None
    _seen: dict[tuple[int, ...], Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What of prompts of certain lengths is visible: the same at all layers, so it is found once."""

    def __post_init__(self) -> None:
        if any(isinstance(prompt, Mixture) for prompt in self.bank):
            raise ValueError("a row reads one prompt. Put the prompts of a mixture into the bank, and repeat the row")

    @property
    def sites(self) -> frozenset[Site]:
        """Every site that some prefix of the bank covers."""
        return frozenset(site for prompt in self.bank for site in prompt.prefix)

    def repeated(self, times: int) -> Injection:
        """The injection of a batch in which every row stands ``times`` times, as beam search makes it."""
        return self if self.rows is None else Injection(self.bank, self.rows.repeat_interleave(times))

    def at(self, site: Site) -> SitePrefix | None:
        """Gather what each row reads at ``site``.

        Returns:
            None when no prefix of the bank covers the site. A row whose own prefix does not
            cover it sees only hidden positions there, that is: nothing.
        """
        pairs = [prompt.prefix.get(site) for prompt in self.bank]
        if len(pairs) == 1:
            return None if pairs[0] is None else _shared(pairs[0])
        present = [pair for pair in pairs if pair is not None]
        if not present:
            return None
        blank = present[0].key.new_zeros(present[0].key.shape[0], 0, present[0].key.shape[2])
        lengths = [0 if pair is None else pair.key.shape[1] for pair in pairs]
        rows = self._rows(blank.device)
        keys = self._gathered([blank if pair is None else pair.key for pair in pairs], lengths, rows)
        values = self._gathered([blank if pair is None else pair.value for pair in pairs], lengths, rows)
        visible = self._visible(lengths, rows) if min(lengths) < max(lengths) else None
        gate, gated = _gates(pairs)
        return SitePrefix(
            keys,
            values,
            visible,
            None if gate is None else gate[rows],
            None if gated is None else gated[rows],
        )

    def inputs(self) -> RowInputs | None:
        """Gather the input prompt of each row; None when no prompt of the bank has one."""
        prompts = [prompt.inputs for prompt in self.bank]
        present = [prompt for prompt in prompts if prompt is not None]
        if not present:
            return None
        blank = present[0].vectors[:0]
        lengths = [0 if prompt is None else len(prompt.anchors) for prompt in prompts]
        rows = self._rows(blank.device)
        vectors = _stack_padded([blank if prompt is None else prompt.vectors for prompt in prompts], max(lengths))
        anchors = [[] if prompt is None else [int(anchor) for anchor in prompt.anchors] for prompt in prompts]
        places = torch.tensor([[*one, *[0] * (max(lengths) - len(one))] for one in anchors], device=blank.device)
        return RowInputs(vectors[rows], places[rows], _visible(lengths, blank.device)[rows])

    def deltas(self, layer: int) -> Tensor | None:
        """Gather what is added at ``layer`` to each row's input prompt, ``(B or 1, P, D)``, or None."""
        prompts = [prompt.inputs for prompt in self.bank]
        found = [prompt.deltas[layer] for prompt in prompts if prompt is not None and layer in prompt.deltas]
        if not found:
            return None
        blank, longest = found[0][:0], max(0 if prompt is None else len(prompt.anchors) for prompt in prompts)
        each = [blank if prompt is None else prompt.deltas.get(layer, blank) for prompt in prompts]
        return _stack_padded(each, longest)[self._rows(blank.device)]

    @property
    def modulates(self) -> bool:
        """Whether some prompt of the bank changes hidden states."""
        return any(prompt.modulations for prompt in self.bank)

    def modulation(self, layer: int) -> Modulation | None:
        """Gather how what ``layer`` is given is changed in each row, ``(B or 1, D)``; None where it is in no row."""
        pairs = [prompt.modulations.get(layer) for prompt in self.bank]
        present = [pair for pair in pairs if pair is not None]
        if not present:
            return None
        blank = Modulation(*map(torch.zeros_like, present[0]))
        rows = self._rows(present[0].scale.device)
        each = zip(*(blank if pair is None else pair for pair in pairs), strict=True)
        return Modulation(*(torch.stack(tensors).index_select(0, rows) for tensors in each))

    def flags(self, read: Callable[[Prompt], int], device: torch.device) -> Tensor:
        """One whole number per row, ``(B or 1,)`` int64, read from its prompt."""
        return torch.tensor([read(prompt) for prompt in self.bank], device=device)[self._rows(device)]

    def selected(self, rows: Tensor) -> Injection:
        """The injection of some rows of the batch, by their numbers ``(A,)``."""
        return self if self.rows is None else Injection(self.bank, self._rows(rows.device)[rows])

    def _gathered(self, tensors: Sequence[Tensor], lengths: Sequence[int], rows: Tensor) -> Tensor:
        """Of K tensors ``(..., p_k, X)`` that of each row, ``(B, ..., P, X)``, zeros behind the shorter ones."""
        many = 2 * len(tensors) > len(rows) and rows.device.type == "cpu" and min(lengths) == max(lengths)
        if many and not torch.is_grad_enabled():
            return torch.stack([tensors[number] for number in rows.tolist()])  # one copy, where a bank needs two
        return _stack_padded(tensors, max(lengths)).index_select(0, rows)  # its gradient is added up row by row

    def _visible(self, lengths: Sequence[int], rows: Tensor) -> Tensor:
        key = tuple(lengths)
        if key not in self._seen:
            self._seen[key] = _visible(lengths, rows.device)[rows]
        return self._seen[key]

    def _rows(self, device: torch.device) -> Tensor:
        if self.rows is not None:
            return self.rows.to(device)
        if len(self.bank) > 1:
            raise ValueError("a bank of several prompts needs the row indices of the batch")
        return torch.zeros(1, dtype=torch.long, device=device)


def _shared(pair: KeyValue) -> SitePrefix:
    if pair.gate is None:
        return SitePrefix(pair.key[None], pair.value[None], None)
    everywhere = torch.ones(1, dtype=torch.bool, device=pair.key.device)
    return SitePrefix(pair.key[None], pair.value[None], None, pair.gate[None], everywhere)


def _gates(pairs: Sequence[KeyValue | None]) -> tuple[Tensor | None, Tensor | None]:
    """Gates ``(K, query heads)`` with zeros where there is none, and where there is one ``(K,)``."""
    gates = [None if pair is None else pair.gate for pair in pairs]
    present = [gate for gate in gates if gate is not None]
    if not present:
        return None, None
    stacked = torch.stack([torch.zeros_like(present[0]) if gate is None else gate for gate in gates])
    return stacked, torch.tensor([gate is not None for gate in gates], device=stacked.device)


def _visible(lengths: Sequence[int], device: torch.device) -> Tensor:
    """``(K, longest)`` bool, True at the first ``lengths[k]`` positions."""
    return torch.arange(max(lengths), device=device) < torch.tensor(lengths, device=device)[:, None]


def _stack_padded(tensors: Sequence[Tensor], length: int) -> Tensor:
    """Stack ``(..., p_k, X)`` tensors into ``(K, ..., length, X)``, zeros behind the shorter ones.

    Neighbours of one length are stacked before they are padded, for a bank may be long.
    """
    runs = [list(run) for _, run in groupby(tensors, key=lambda tensor: tensor.shape[-2])]
    padded = [_padded(torch.stack(run), length) for run in runs]
    return padded[0] if len(padded) == 1 else torch.cat(padded)


def _padded(stacked: Tensor, length: int) -> Tensor:
    missing = length - stacked.shape[-2]
    return torch.nn.functional.pad(stacked, (0, 0, 0, missing)) if missing else stacked
