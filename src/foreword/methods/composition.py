"""Prompts put together out of prompts of one backbone: their mean, and one behind the other.

They may be folded or fresh from their encoders; gradients pass through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from foreword.errors import MethodError
from foreword.injection import Anchor, InputPrompt, KeyValue, Modulation, Prompt, Site
from foreword.methods.base import single

_Join = Callable[[str, Sequence[Tensor], int], Tensor]
"""Makes one tensor of several: what they are in words, the tensors, and the axis of their prompt positions."""


def average(prompts: Sequence[Prompt], weights: Sequence[float] | None = None) -> Prompt:
    """The mean of prompts, number by number.

    Args:
        prompts: with the same sites, lengths, gates and places.
        weights: one per prompt, not negative; they are divided by their sum. All alike if None.

    Raises:
        MethodError: there are no prompts, one is a mixture, they differ in kind or shape, or the weights make no mean.
    """
    prompts = [single(prompt) for prompt in prompts]
    shares = _shares(len(prompts), weights)

    def mean(what: str, tensors: Sequence[Tensor], axis: int) -> Tensor:
        del axis
        if len(shapes := sorted({tuple(tensor.shape) for tensor in tensors})) > 1:
            raise MethodError(f"these prompts have no mean: {what} are {_listed(shapes)}")
        return torch.stack([share * tensor for share, tensor in zip(shares, tensors, strict=True)]).sum(0)

    if len({(bool(prompt.prefix), prompt.inputs is None) for prompt in prompts}) > 1:
        raise MethodError("these prompts have no mean: some are keys and values, some vectors. They can be stacked")
    if len({tuple(sorted(prompt.modulations)) for prompt in prompts}) > 1:
        raise MethodError("these prompts have no mean: they modulate different layers")
    places = [prompt.inputs.anchors for prompt in prompts if prompt.inputs is not None]
    if len(set(places)) > 1:
        raise MethodError("these prompts have no mean: their vectors are not as many, or stand in different places")
    merged = _merged(prompts, mean, mean, places[0] if places else ())
    return replace(merged, modulations=_modulations(prompts, mean))


def stack(prompts: Sequence[Prompt]) -> Prompt:
    """Prompts one behind the other, as one: their keys and values, and their vectors.

    Args:
        prompts: those that have keys and values have them at the same sites. Where they have gates these are the
            same, for the whole has one softmax and one gate. Of those that modulate a layer there is one.

    Raises:
        MethodError: there are no prompts, or they cannot be read as one.
    """
    prompts = [single(prompt) for prompt in prompts]
    places = [prompt.inputs.anchors for prompt in prompts if prompt.inputs is not None]
    merged = _merged(prompts, _joined, _same_gate, tuple(anchor for anchors in places for anchor in anchors))
    return replace(merged, modulations=_modulations(prompts, _one_alone))


def unstack(prompt: Prompt, parts: Sequence[Prompt]) -> list[Prompt]:
    """Cut a prompt into pieces as long as some others; `stack` is the way back.

    Args:
        prompt: the whole.
        parts: have the lengths of the pieces.

    Raises:
        MethodError: their lengths are not those of the whole together.
    """
    pieces: list[Prompt] = []
    positions = vectors = 0
    for part in parts:
        after, behind = positions + part.length, vectors + _vectors(part)
        piece = _piece(prompt, slice(positions, after), slice(vectors, behind))
        pieces.append(replace(piece, modulations=prompt.modulations) if part.modulations else piece)
        positions, vectors = after, behind
    if (positions, vectors) != (prompt.length, _vectors(prompt)):
        raise MethodError(
            f"the prompt has {prompt.length} positions and {_vectors(prompt)} vectors, its parts together would have "
            f"{positions} and {vectors}"
        )
    return pieces


def _merged(prompts: Sequence[Prompt], join: _Join, join_gates: _Join, anchors: tuple[Anchor, ...]) -> Prompt:
    """All that several prompts have before the text joined, each tensor with its like."""
    if not prompts:
        raise MethodError("there are no prompts to put together")
    prefixed = [prompt for prompt in prompts if prompt.prefix]
    shift_positions = _agreed(prefixed, "shift_positions")
    infix = _agreed(prefixed, "infix")
    prefix: dict[Site, KeyValue] = {}
    for site in _common_sites(prefixed):
        pairs = [prompt.prefix[site] for prompt in prefixed]
        gates = [pair.gate for pair in pairs if pair.gate is not None]
        if len(gates) not in (0, len(pairs)):
            raise MethodError(f"at {site} some of these prompts have a gate and some have none")
        prefix[site] = KeyValue(
            join(f"the keys at {site}", [pair.key for pair in pairs], 1),
            join(f"the values at {site}", [pair.value for pair in pairs], 1),
            join_gates(f"the gates at {site}", gates, 0) if gates else None,
        )
    inputs = [prompt.inputs for prompt in prompts if prompt.inputs is not None]
    if not inputs:
        return Prompt(prefix, None, shift_positions, infix)
    vectors = join("the vectors", [one.vectors for one in inputs], 0)
    layers = sorted({layer for one in inputs for layer in one.deltas})
    deltas = {layer: join(f"the changes at layer {layer}", _deltas(inputs, layer), 0) for layer in layers}
    return Prompt(prefix, InputPrompt(vectors, anchors, deltas), shift_positions, infix)


def _modulations(prompts: Sequence[Prompt], join: _Join) -> dict[int, Modulation]:
    """What several prompts make of hidden states, joined layer by layer."""
    found: dict[int, Modulation] = {}
    for layer in sorted({layer for prompt in prompts for layer in prompt.modulations}):
        pairs = [prompt.modulations[layer] for prompt in prompts if layer in prompt.modulations]
        what = f"what layer {layer} is given"
        found[layer] = Modulation(join(what, [p.scale for p in pairs], 0), join(what, [p.shift for p in pairs], 0))
    return found


def _agreed(prompts: Sequence[Prompt], flag: str) -> bool:
    """What all say, False if nobody is asked."""
    said = {getattr(prompt, flag) for prompt in prompts}
    if len(said) > 1:
        raise MethodError(f"some of these prompts have {flag} and some have not")
    return said == {True}


def _common_sites(prompts: Sequence[Prompt]) -> list[Site]:
    covered = [sorted(prompt.prefix) for prompt in prompts]
    for sites in covered[1:]:
        if sites != covered[0]:
            ours, theirs = (", ".join(map(str, one)) for one in (covered[0], sites))
            raise MethodError(f"these prompts cover different sites: {ours}; and {theirs}")
    return covered[0] if covered else []


def _joined(what: str, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """One behind the other along ``axis``."""
    shapes = sorted({(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in tensors})
    if len(shapes) > 1:
        raise MethodError(f"these prompts are of different backbones: positions of {what} are {_listed(shapes)}")
    return torch.cat(list(tensors), dim=axis)


def _same_gate(what: str, gates: Sequence[Tensor], axis: int) -> Tensor:
    del axis
    if any(gate is not gates[0] and not torch.equal(gate, gates[0]) for gate in gates):
        raise MethodError(f"prompts one behind the other have one gate, but {what} differ")
    return gates[0]


def _one_alone(what: str, tensors: Sequence[Tensor], axis: int) -> Tensor:
    del axis
    if len(tensors) > 1:
        raise MethodError(f"several of these prompts change {what}; only one can")
    return tensors[0]


def _deltas(inputs: Sequence[InputPrompt], layer: int) -> list[Tensor]:
    """What each adds at ``layer``, zeros for those that add nothing."""
    width = next(one.deltas[layer].shape[1] for one in inputs if layer in one.deltas)
    return [one.deltas.get(layer, one.vectors.new_zeros(len(one.anchors), width)) for one in inputs]


def _piece(prompt: Prompt, positions: slice, vectors: slice) -> Prompt:
    """Some positions of the prefix and some of the vectors."""
    prefix, inputs = {}, None
    if positions.start < positions.stop:
        prefix = {
            site: KeyValue(key[:, positions], value[:, positions], gate)
            for site, (key, value, gate) in prompt.prefix.items()
        }
    if prompt.inputs is not None and vectors.start < vectors.stop:
        given = prompt.inputs
        deltas = {layer: delta[vectors] for layer, delta in given.deltas.items()}
        inputs = InputPrompt(given.vectors[vectors], given.anchors[vectors], deltas)
    return Prompt(prefix, inputs, prompt.shift_positions and bool(prefix), prompt.infix and bool(prefix))


def _vectors(prompt: Prompt) -> int:
    return 0 if prompt.inputs is None else len(prompt.inputs.anchors)


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """Weights that add up to 1."""
    if weights is None:
        return [1 / max(count, 1)] * count
    if len(weights) != count:
        raise MethodError(f"{count} prompts need as many weights, not {len(weights)}")
    total = sum(weights)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or total <= 0:
        raise MethodError(f"the weights of a mean are not negative and not all zero; found {list(weights)}")
    return [weight / total for weight in weights]


def _listed(items: Iterable[object]) -> str:
    return " and ".join(map(str, items))
