"""How many numbers a method trains, and how many of them are left to store: counted, never estimated.

Nothing is loaded: backbone and prompt are built on torch's meta device, where tensors have shapes and
no contents, and then counted. So what stands here is what training will do, whatever a method adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch

from foreword.artifacts.tensors import prompt_names
from foreword.backbones import Backbone
from foreword.errors import MethodError
from foreword.methods import METHODS, Blueprint, Method, fold
from foreword.methods.base import attach
from foreword.tasks import Classification


@dataclass(frozen=True)
class Count:
    """The parameters of one method on one backbone.

    Attributes:
        trained: by the optimizer, without the task's head.
        kept: what an artifact stores of it to serve, in numbers: reparameterizations are folded away.
        stored_bytes: the size of these in an artifact; prompts are stored in float32.
        backbone: parameters of the backbone itself.
    """

    trained: int
    kept: int
    stored_bytes: int
    backbone: int

    @property
    def ratio(self) -> float:
        """Trained parameters as a fraction of the backbone's."""
        return self.trained / self.backbone


def count_parameters(method: Method, backbone: Backbone, labels: Sequence[str] = ()) -> Count:
    """Count a method's parameters on a backbone, planned (`plan_backbone`) or loaded.

    Args:
        method: with its settings.
        backbone: whose shapes decide.
        labels: of the task, for methods that have something per class.

    Raises:
        MethodError: the method does not fit the backbone.
    """
    whole = backbone.parameter_count
    with torch.device("meta"):
        encoder = method.build(Blueprint(backbone), labels)
        tensors = list(prompt_names(None if encoder is None else fold(encoder)).values())
        attachment = attach(method, backbone)
    weights = dict(backbone.model.named_parameters())
    tuned = [weights[name] for name in method.tuned(list(weights))]
    parameters = [*([] if encoder is None else encoder.parameters()), *tuned]
    if attachment is not None:
        parameters += attachment.parameters()
        tensors += attachment.state_dict().values()
        attachment.detach()
    return Count(
        sum(parameter.numel() for parameter in parameters),
        sum(tensor.numel() for tensor in (*tensors, *tuned) if tensor.is_floating_point()),
        sum(tensor.numel() * tensor.element_size() for tensor in (*tensors, *tuned)),
        whole,
    )


def head_parameters(backbone: Backbone, labels: int) -> int:
    """Parameters of a default classification head for so many labels."""
    with torch.device("meta"):
        head = Classification(labels=label_names(labels)).build_head(backbone.hidden_size, backbone)
    return sum(parameter.numel() for parameter in head.parameters())


def label_names(count: int) -> tuple[str, ...]:
    """Names to stand for labels that are not known yet."""
    return tuple(str(number) for number in range(count))


def variants(prompt_length: int | None = None) -> Iterator[tuple[str, Method]]:
    """Every method of the table that has default settings, and each reparameterization it can have.

    Args:
        prompt_length: P, for the methods that have one; their own defaults if None.
    """
    for name, method in METHODS.items():
        fields = method.model_fields
        if any(field.is_required() for field in fields.values()):
            continue  # methods of methods: they are what those inside are together
        settings: dict[str, Any] = {}
        if prompt_length is not None and "prompt_length" in fields:
            settings["prompt_length"] = prompt_length
        elif prompt_length is not None and "template" in fields:
            settings["template"] = _template(prompt_length)
        if "reparameterization" not in fields:
            yield name, method(**settings)
            continue
        for kind in get_args(fields["reparameterization"].annotation):
            yield f"{name} ({kind})", method(**settings | {"reparameterization": kind})


def _template(length: int) -> tuple[int | str, ...]:
    """So many vectors around the text, half of them on either side."""
    behind = length // 2
    return (length - behind, "text", *([behind] if behind else []))


def count_all(
    backbone: Backbone, prompt_length: int | None = None, labels: Sequence[str] = ()
) -> dict[str, Count | MethodError]:
    """`count_parameters` of all `variants` by name; the reason where one does not fit the backbone."""
    found: dict[str, Count | MethodError] = {}
    for name, method in variants(prompt_length):
        try:
            found[name] = count_parameters(method, backbone, labels)
        except MethodError as error:
            found[name] = error
    return found
