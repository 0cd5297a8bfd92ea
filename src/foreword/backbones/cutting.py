"""Running a model from one of its layers on, with what enters that layer known; or only up to there.

From a layer on, the model's own forward pass runs, on a view of the model in which the embeddings make nothing and the
layers below hand on what is known. So masks, positions and biases are made by the model's own code. Families that go
through their layers themselves ask the call where to begin. Up to a layer, the pass is left when it gets there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from foreword.backbones.call import Entry, PrefixCall, Reached
from foreword.backbones.families import FAMILIES
from foreword.backbones.loaded import Loaded


def run_below(backbone: Loaded, inputs: dict[str, Any], layer: int, *, every_layer: bool) -> Tensor:
    """What the bare model, without dropout, gives to a layer.

    Args:
        backbone: of text.
        inputs: of the trunk, with all padding on the right.
        layer: number of a layer; N for what the model gives in the end.
        every_layer: whether to give what enters the layers below as well, in front of it, in order.

    Returns:
        ``(B, S, D)``, or ``(B, S, (layer + 1) D)`` of every layer. No inference tensors, so training may use them.
    """
    with torch.inference_mode(False), torch.no_grad(), backbone.evaluating():
        call = backbone.prefix_call(None, keep=every_layer, until=layer)
        try:
            hidden = FAMILIES[backbone.family].run(backbone.trunk, inputs, call)
        except Reached as reached:
            hidden = reached.hidden
        below = [] if call.kept is None else [call.kept[number] for number in range(layer)]
        return torch.cat([*below, hidden], dim=-1) if below else hidden


def entry_of(states: Tensor, layer: int, *, every_layer: bool) -> Entry:
    """What `run_below` gave, as a call takes it."""
    *below, hidden = states.chunk(layer + 1, dim=-1) if every_layer else (states,)
    return Entry(layer, hidden, dict(enumerate(below)))


def run_above(backbone: Loaded, inputs: dict[str, Any], call: PrefixCall) -> Tensor:
    """Hidden states ``(B, S, D)`` of the last layer, from the entry of a call on.

    Args:
        backbone: itself left as it is, so others may use it meanwhile.
        inputs: of the trunk, of which only the shapes and the mask count.
        call: with an entry.
    """
    entry, family, trunk = call.entry, FAMILIES[backbone.family], backbone.trunk
    assert entry is not None
    if entry.layer == backbone.depth:
        return entry.states
    by: dict[nn.Module, nn.Module] = {_embeddings(trunk): _NoEmbeddings(trunk, entry)}
    if not family.runs_layers:
        by |= {
            layer: _Passed(layer, entry.states, family.hand_on)
            for layer, number in backbone.layer_numbers.items()
            if number < entry.layer
        }
    return family.run(_with_others(trunk, by), inputs, call)


class _NoEmbeddings(nn.Module):
    """In place of embeddings: zeros ``(B, S, W)`` that take no memory, for code that asks them for shape and type."""

    def __init__(self, trunk: Any, entry: Entry) -> None:
        super().__init__()
        weight = trunk.get_input_embeddings().weight
        zero = weight.new_zeros(1, 1, weight.shape[1], dtype=trunk.dtype)
        self._nothing = zero.expand(*entry.states.shape[:2], -1)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The zeros, whatever the tokens are."""
        del args, kwargs
        nothing: Tensor = self._nothing
        return nothing


class _Passed(nn.Module):
    """In place of a layer that need not run: it is what the layer is, but gives what is known."""

    def __init__(self, layer: nn.Module, states: Tensor, hand_on: Callable[..., Any]) -> None:
        super().__init__()
        object.__setattr__(self, "_layer", layer)  # no child of this one
        self._states, self._hand_on = states, hand_on

    def __getattr__(self, name: str) -> Any:
        """What models read off their layers, such as a kind of attention."""
        return getattr(self.__dict__["_layer"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer would give, in its form."""
        del kwargs
        return self._hand_on(self._layer, self._states, args)


def _embeddings(trunk: Any) -> nn.Module:
    """The module that makes all of a trunk's embeddings, or else those of its tokens."""
    tokens = trunk.get_input_embeddings()
    path = next(name for name, module in trunk.named_modules() if module is tokens).split(".")
    end = path.index("embeddings") + 1 if "embeddings" in path else len(path)
    found: nn.Module = trunk.get_submodule(".".join(path[:end]))
    return found


def _with_others(module: nn.Module, by: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """A shell around the same modules, but for some that others stand in for."""
    if module in by:
        return by[module]
    children = {name: child and _with_others(child, by) for name, child in module._modules.items()}
    if all(child is module._modules[name] for name, child in children.items()):
        return module
    shell = copy.copy(module)
    shell._modules = children
    return shell
