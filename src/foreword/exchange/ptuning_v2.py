"""State dicts of P-Tuning v2's own code: the prefix, with or without its MLP, and the task's head.

Source: github.com/THUDM/P-tuning-v2, whose models are BERT and RoBERTa with a ``prefix_encoder``. What
was saved is the whole model; its frozen weights must be those of the backbone, and are left out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foreword.backbones import Backbone
from foreword.errors import ArtifactError
from foreword.exchange.foreign import Foreign, ForeignHead
from foreword.exchange.heads import linear, pooler_layer
from foreword.exchange.reading import find_file, read_checkpoint
from foreword.exchange.reparameterized import Matrix, read_matrix
from foreword.methods import PTuningV2
from foreword.methods.making.prefix import prefix_columns
from foreword.tasks import Classification, Task

FILES = ("pytorch_model.bin", "model.safetensors")
_TRUNKS = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta"}
"""Families of that code that can be read here, and what they call the frozen part."""


def read_ptuning_v2(source: Path, backbone: Backbone, task: Task[Any, Any]) -> Foreign:
    """A prefix and a head, positions shifted as that code does.

    Args:
        source: the file, or the folder it lies in.
        backbone: the one it was trained on.
        task: tells a classifier of texts from one of tokens.

    Raises:
        ArtifactError: it is no such checkpoint, or not of this backbone.
    """
    path = find_file(source, FILES)
    tensors = read_checkpoint(path)
    if backbone.family not in _TRUNKS:
        raise ArtifactError(
            f"{path}: checkpoints of P-Tuning v2 are read for {', '.join(_TRUNKS)}, not for '{backbone.family}'"
        )
    trunk = f"{_TRUNKS[backbone.family]}."
    frozen = {name.removeprefix(trunk): tensor for name, tensor in tensors.items() if name.startswith(trunk)}
    _check_frozen(frozen, backbone, path)
    matrix = _matrix(tensors, backbone, path)
    kind: dict[str, Any] = {"reparameterization": "mlp", "mlp_hidden": matrix.hidden} if matrix.hidden else {}
    method = PTuningV2(prompt_length=len(matrix.embedding), shift_positions=True, **kind)
    encoder = method.build(backbone)
    matrix.into(encoder.prompt)
    return Foreign(method, encoder, _head(tensors, frozen, backbone, task, path), [path])


def _matrix(tensors: Mapping[str, Tensor], backbone: Backbone, path: Path) -> Matrix:
    if "prefix_encoder.weight" in tensors:
        raise ArtifactError(
            f"{path}: is a shallow prompt (--prompt). That code adds positions, types and a layer norm to the text "
            "twice, which no method here repeats"
        )
    name = "prefix_encoder.embedding.weight"
    if name not in tensors:
        raise ArtifactError(f"{path}: has no '{name}', so it is no checkpoint of P-Tuning v2")
    columns, width = prefix_columns(backbone.sites), backbone.hidden_size
    return read_matrix(tensors, name, "prefix_encoder.trans", path, columns=columns, width=width)


def _head(
    tensors: Mapping[str, Tensor], frozen: Mapping[str, Tensor], backbone: Backbone, task: Task[Any, Any], path: Path
) -> ForeignHead | str:
    """The head; that of a text stands behind the frozen pooler, whose weights come along."""
    name = next((name for name in ("qa_outputs", "classifier") if f"{name}.weight" in tensors), None)
    if name is None:
        return "there is neither 'classifier' nor 'qa_outputs' in it"
    layer = linear(tensors, name, backbone.hidden_size, path)
    if name == "qa_outputs" or not isinstance(task, Classification):
        return ForeignHead("token", [layer])
    pooler = pooler_layer(frozen, backbone, path)
    return pooler if isinstance(pooler, str) else ForeignHead("first", [pooler, layer])


def _check_frozen(frozen: Mapping[str, Tensor], backbone: Backbone, path: Path) -> None:
    """Refuse a checkpoint whose own backbone has other numbers than ours."""
    ours = backbone.trunk.state_dict()
    for name, tensor in frozen.items():
        if name in ours and tensor.is_floating_point():
            mine = ours[name].cpu()
            if mine.shape != tensor.shape or not torch.equal(mine, tensor.to(mine.dtype)):
                raise ArtifactError(
                    f"{path}: its frozen weights are not those of '{backbone.name}' ('{name}' differs): it is for "
                    "another backbone, or the backbone was tuned along, which a prompt alone cannot hold"
                )
