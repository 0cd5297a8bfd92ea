"""LoRA: the baseline that adds a trained product of two thin matrices to some projections.

Source: Hu et al. 2022, 'LoRA: Low-Rank Adaptation of Large Language Models', section 4. The layers
are those of HF PEFT, which is an extra (``pip install 'foreword[peft]'``); which modules get one by
default is PEFT's table by model family, most often the query and value projections (section 4.2),
and these for families that it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from foreword.attachment import Attachment, Through, unrouted
from foreword.errors import MethodError
from foreword.methods.base import Carrier, Method

Targets = Literal["default"] | tuple[str, ...]
Endings = tuple[tuple[str, ...], ...]
# Query and value projections, as transformers calls them in families that PEFT's table leaves out.
_QUERY_VALUE: Endings = (("query", "value"), ("q_proj", "v_proj"), ("q_lin", "v_lin"), ("q", "v"), ("Wqkv",))


class LoRA(Method):
    """Settings of LoRA. A and B are kept apart, never merged into the backbone."""

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "baseline: low-rank changes of projections (Hu et al. 2022; needs foreword[peft])"

    r: PositiveInt = 8
    """Rank of the change."""
    alpha: PositiveFloat = 8.0
    """The change is scaled by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which inputs of the change are dropped while training."""
    targets: Targets = "default"
    """Endings of module names, such as ['query', 'value']; 'default' takes what PEFT does for the family."""

    @property
    def attaches(self) -> bool:
        """A and B per target."""
        return True

    def attach(self, backbone: Carrier, attachment: Attachment) -> None:
        """PEFT's LoRA layers at every target: A drawn at random, B zero."""
        peft = import_peft(self.name)
        table = peft.utils.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
        places = find_targets(backbone, self.targets, (table.get(backbone.family, ()), *_QUERY_VALUE))
        if not places:
            raise MethodError("method.targets: names no module. Leave it out for the default")
        config = peft.LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=".+",
            fan_in_fan_out=are_transposed(places),
        )
        put_layers(peft, config, places, attachment)

    @property
    def default_learning_rate(self) -> float:
        """The paper's for RoBERTa base (appendix D.1)."""
        return 5e-4


def import_peft(method: str) -> ModuleType:
    """HF PEFT.

    Raises:
        MethodError: it is not installed.
    """
    try:
        return import_module("peft")  # only where it is needed: it takes seconds
    except ImportError as error:
        raise MethodError(f"the method '{method}' needs HF PEFT. Run: pip install 'foreword[peft]'") from error


def find_targets(
    backbone: Carrier, targets: Targets, defaults: Sequence[Sequence[str]], setting: str = "targets"
) -> dict[str, nn.Module]:
    """The projections of a backbone that endings of names mean, by name.

    Args:
        backbone: where to look.
        targets: endings of names, or "default".
        defaults: what that may mean; the first of which every ending is there.
        setting: of the method, for messages.

    Raises:
        MethodError: no default fits, or an ending is not there.
    """
    linear = {name: module for name, module in backbone.places.items() if _is_linear(module)}
    known = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))

    def found(ending: str) -> set[str]:
        return {name for name in linear if f".{name}".endswith(f".{ending}")}

    if targets == "default":
        targets = next((tuple(endings) for endings in defaults if endings and all(map(found, endings))), ())
        if not targets:
            raise MethodError(
                f"method.{setting}: there is no default for a {backbone.family} model. Name linear modules of it by "
                f"the ends of their names: {known}"
            )
    for ending in targets:
        if not found(ending):
            raise MethodError(f"method.{setting}: no linear module is called '{ending}' here. There are: {known}")
    chosen = set().union(*map(found, targets))
    return {name: module for name, module in linear.items() if name in chosen}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # GPT-2's, a linear layer transposed


def are_transposed(places: Mapping[str, nn.Module]) -> bool:
    """Whether weights are ``(in, out)``, as PEFT wants to be told."""
    return not any(isinstance(place, nn.Linear) for place in places.values())


def shell_name(name: str) -> str:
    """What a place is called while PEFT wraps it."""
    return name.replace(".", "-")


def put_layers(peft: ModuleType, config: Any, places: Mapping[str, nn.Module], attachment: Attachment) -> None:
    """Let PEFT wrap each place, and route the place through its wrapper; the backbone's modules stay where they are.

    Args:
        peft: the package.
        config: of a tuner, with ``target_modules = ".+"``.
        places: modules of the backbone by name.
        attachment: takes the wrappers, of which only what PEFT adds is trained and stored, in float32.
    """
    shells = nn.ModuleDict({shell_name(name): unrouted(place) for name, place in places.items()})
    peft.inject_adapter_in_model(config, shells)
    for (name, place), wrapper in zip(places.items(), list(shells.values()), strict=True):
        wrapper.__dict__["base_layer"] = wrapper._modules.pop("base_layer")  # used, but neither trained nor stored
        attachment.put(name, place, wrapper.float(), _through(wrapper))


def _through(wrapper: nn.Module) -> Through:
    def through(bare: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        del bare  # the wrapper has the place's weights itself
        return wrapper(*args, **kwargs)

    return through
