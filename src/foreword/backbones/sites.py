"""Which modules of a model attend, and which layer each belongs to: found by running the model once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foreword.backbones.attention import KEYWORD, Found, Probe
from foreword.backbones.call import PrefixCall
from foreword.injection import Site, SiteShape

Run = Callable[[PrefixCall], Any]
"""A forward pass over some input, handed the call its attention layers get."""


@dataclass(frozen=True)
class Sites:
    """Every place where a backbone's attention can read a prefix.

    Attributes:
        shapes: site -> the sizes it wants, in the order in which the sites run.
        of: attention module -> its sites, one per turn.
    """

    shapes: Mapping[Site, SiteShape]
    of: Mapping[nn.Module, Sequence[Site]]


def find_sites(run: Run, stack: Callable[[Found], str]) -> Sites:
    """Run once and see who attends.

    Asking the model itself, rather than a list of class names, is what keeps the seam free of families.

    Args:
        run: a forward pass.
        stack: names the stack that one found attention belongs to.
    """
    probe = Probe()
    with torch.no_grad():
        run(probe)
    shapes: dict[Site, SiteShape] = {}
    of: dict[nn.Module, list[Site]] = defaultdict(list)
    layers: dict[str, int] = defaultdict(int)
    for found in probe.found:
        name = stack(found)
        site = Site(name, layers[name])
        layers[name] += 1
        shapes[site] = found.shape
        of[found.module].append(site)
    return Sites(shapes, dict(of))


def watch_layers(model: nn.Module, sites: Sites) -> None:
    """Let every layer tell the call what it is given, which then adds the deltas of an input prompt, or more rows.

    Deltas come with the call, as prefixes do; without them nothing is added. Only the first stack has
    input prompts and is read by heads, so only its layers are watched.
    """
    first = next(iter(sites.shapes)).stack
    for module, turns in sites.of.items():
        if turns[0].stack == first:
            layer_of(model, module).register_forward_pre_hook(_enter(module), with_kwargs=True)


def layer_of(model: nn.Module, attention: nn.Module) -> nn.Module:
    """The layer an attention module belongs to: its nearest ancestor that is an item of a list of modules."""
    own = next(name for name, module in model.named_modules() if module is attention)
    for name in _ancestors(own):
        if isinstance(_parent(model, name), nn.ModuleList):
            return model.get_submodule(name)
    raise LookupError(f"{own} is in no list of layers")


def layers_of(model: nn.Module, sites: Sites) -> dict[str, nn.Module]:
    """Every layer by its name, in the order in which they run; layers that share their weights are one.

    A layer is an item of a list of modules all of which attend. So the parts of a T5 block, which are in a
    list too, are no layers.
    """
    names = {module: name for name, module in model.named_modules()}
    attending = {name for attention in sites.of for name in _ancestors(names[attention])}
    found: dict[str, nn.Module] = {}
    for attention in sites.of:
        for name in _ancestors(names[attention]):
            items = _parent(model, name)
            if isinstance(items, nn.ModuleList) and all(names[item] in attending for item in items):
                found[name] = model.get_submodule(name)
                break
    return found


def layer_numbers(model: nn.Module, sites: Sites) -> dict[nn.Module, int]:
    """Layers of the first stack, and the number of each; of one that is shared, that of its first turn."""
    numbers, first = {}, next(iter(sites.shapes)).stack
    for layer in layers_of(model, sites).values():
        site = next(sites.of[module][0] for module in layer.modules() if module in sites.of)
        if site.stack == first:
            numbers[layer] = site.layer
    return numbers


def _ancestors(name: str) -> list[str]:
    """The name of a module and of all that it is in, from the inside out."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _parent(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.rpartition(".")[0])


def _enter(attention: nn.Module) -> Callable[..., tuple[Any, Any] | None]:
    def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        del layer
        call: PrefixCall | None = kwargs.get(KEYWORD)
        if call is None or not call.watches:
            return None
        number = call.coming_site(attention).layer
        args = call.branched(number, *args)
        kwargs = dict(zip(kwargs, call.branched(number, *kwargs.values()), strict=True))
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        changed = call.entering(hidden, number)
        if args:
            return (changed, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed}

    return before
