"""Heads of foreign checkpoints and ours: which fit into which, and how their rows are ordered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from foreword.backbones import Backbone, load_pooler
from foreword.errors import ArtifactError, BackboneError, RecipeError
from foreword.exchange.foreign import ForeignHead, Linear
from foreword.exchange.reading import float32
from foreword.heads import Head, PooledHead, TokenHead
from foreword.tasks import NER, QA, Classification, Task

TaskT = TypeVar("TaskT", bound=Task[Any, Any])


def linear(tensors: Mapping[str, Tensor], name: str, inputs: int, path: Path) -> Linear:
    """Weight and bias of a linear layer; zeros where it has no bias.

    Raises:
        ArtifactError: it is not there, or of another shape.
    """
    if f"{name}.weight" not in tensors:
        raise ArtifactError(f"{path}: '{name}.weight' is missing")
    weight = float32(tensors[f"{name}.weight"], f"{name}.weight", (None, inputs), path)
    if f"{name}.bias" not in tensors:
        return weight, weight.new_zeros(len(weight))
    return weight, float32(tensors[f"{name}.bias"], f"{name}.bias", (len(weight),), path)


def pooler_layer(tensors: Mapping[str, Tensor], backbone: Backbone, path: Path) -> Linear | str:
    """The layer with tanh that BERT puts between its first token and a classifier.

    It is frozen, so most checkpoints leave it to the backbone's own, which is not loaded with it otherwise.

    Args:
        tensors: of a checkpoint that may bring it, named as in the trunk.
        backbone: whose it is where the checkpoint does not.
        path: for messages.

    Returns:
        Its weights, or why there are none.
    """
    found = {name.removeprefix("pooler."): t for name, t in tensors.items() if name.startswith("pooler.")}
    if not found:
        try:
            found = load_pooler(backbone.name, revision=backbone.revision)
        except BackboneError as error:
            return str(error)
    return linear(found, "dense", backbone.hidden_size, path)


def named_task(task: Task[Any, Any], names: Sequence[str]) -> Task[Any, Any]:
    """The task with labels taken from the names of the head's outputs, where it has none yet.

    Args:
        task: as the user gave it.
        names: of the outputs in their order: labels, or for entities their tags, such as O, B-PER, I-PER.

    Raises:
        RecipeError: the task has no labels, or others.
    """
    if not names:
        return task
    match task:
        case NER():
            types = tuple(dict.fromkeys(tag[2:] for tag in names if tag[:2] in ("B-", "I-")))
            named = task if task.labels else task.model_copy(update={"labels": types})
            if sorted(named.tags) != sorted(names):
                raise RecipeError(f"--labels: expected, in the order of the head's outputs: {', '.join(named.tags)}")
            return named
        case Classification():
            if task.labels not in (None, tuple(names)):
                raise RecipeError(f"--labels: task.labels is {', '.join(task.labels or ())}. Give one of the two")
            return type(task).model_validate({**task.model_dump(exclude_unset=True), "labels": tuple(names)})
    raise RecipeError(f"--labels: the task '{task.name}' has none")


def place_head(
    foreign: ForeignHead, task: Task[Any, Any], names: Sequence[str], backbone: Backbone
) -> tuple[Task[Any, Any], Head]:
    """The task's own head with the numbers of a foreign one.

    Args:
        foreign: as read.
        task: with its labels.
        names: of the foreign head's outputs, in their order.
        backbone: for its sizes.

    Returns:
        The task with the settings that make its head the same function, and that head.

    Raises:
        ArtifactError: this task reads no such head.
        RecipeError: the task's own settings say otherwise, or the number of labels differs.
    """
    match task:
        case NER() | QA() if foreign.reads == "token":
            weight, bias = foreign.layers[0]
            outputs = task.tags if isinstance(task, NER) else ("start", "end")
            if isinstance(task, NER):
                order = [names.index(tag) for tag in outputs] if names else []
                _check_outputs(len(weight), len(order), "the tags of its outputs, in their order")
                weight, bias = weight[order], bias[order]
            _check_outputs(len(weight), len(outputs), "another task")
            task = _with(task, layers="last")
            if isinstance(task, QA):
                task = _with(task, head="linear")
            head: Head = task.build_head(backbone.hidden_size, backbone)
            assert isinstance(head, TokenHead)
            _fill(head.linear, (weight, bias))
            return task, head
        case Classification() if foreign.reads != "token" and task.head == "pooled":
            found = len(foreign.layers[-1][0])
            _check_outputs(found, len(task.labels or ()), "the labels of its outputs, in their order")
            task = _with(task, layers="last", pooling=foreign.reads, hidden_layer=len(foreign.layers) == 2)
            head = task.build_head(backbone.hidden_size, backbone)
            assert isinstance(head, PooledHead)
            places = [layer for layer in head.layers if isinstance(layer, torch.nn.Linear)]
            for place, layer in zip(places, foreign.layers, strict=True):
                _fill(place, layer)
            return task, head
    kind = "every token" if foreign.reads == "token" else f"the {foreign.reads} token"
    raise ArtifactError(
        f"its head reads {kind}, as none of the task '{task.name}' does. Give another --task, or take the prompt "
        "without a head (--prompt-only)"
    )


def _with(task: TaskT, **settings: Any) -> TaskT:
    """The task with settings that the foreign head decides; those the user set must agree."""
    for name, value in settings.items():
        if name in task.model_fields_set and getattr(task, name) != value:
            raise RecipeError(f"task.{name}: is {getattr(task, name)!r}, but the checkpoint's head has {value!r}")
    return task.model_copy(update=settings)


def _check_outputs(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        given = f"{wanted} are given" if wanted else "none are given"
        raise RecipeError(f"--labels: the checkpoint's head has {found} outputs, {given}. Give {what}")


@torch.no_grad()
def _fill(place: torch.nn.Linear, layer: Linear) -> None:
    place.weight.copy_(layer[0])
    place.bias.copy_(layer[1])
