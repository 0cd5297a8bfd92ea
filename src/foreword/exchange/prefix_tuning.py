"""Checkpoints of Li & Liang's code: one prefix for GPT-2, or three for BART, each an embedding and an MLP.

Source: github.com/XiangLi1999/PrefixTuning; Li & Liang 2021, section 4. The frozen model is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from foreword.backbones import Backbone
from foreword.errors import ArtifactError
from foreword.exchange.foreign import Foreign
from foreword.exchange.layout import sites_of
from foreword.exchange.reading import find_file, read_checkpoint
from foreword.exchange.reparameterized import Matrix, read_matrix
from foreword.methods import PrefixTuning
from foreword.methods.making.prefix import prefix_columns
from foreword.methods.prefix_tuning import PrefixSets
from foreword.tasks import Task

FILES = ("pytorch_model.bin", "model.safetensors")
_DECODER = {"decoder": ("wte", "control_trans")}
_ALL = {"encoder": ("wte_enc", "control_trans_enc"), "cross": ("wte2", "control_trans2"), **_DECODER}
_SETS = {"gpt2": _DECODER, "bart": _ALL}
"""Family -> stack -> what that code calls its embedding and its MLP."""


def read_prefix_tuning(source: Path, backbone: Backbone, task: Task[Any, Any]) -> Foreign:
    """The prefix of every stack with its MLP; positions shifted for GPT-2 and not for BART, as that code does.

    Args:
        source: the file, or the folder it lies in.
        backbone: the one it was trained on.
        task: of no interest here: the frozen model is its own head.

    Raises:
        ArtifactError: it is no such checkpoint, or not of this backbone.
    """
    del task
    path = find_file(source, FILES)
    tensors = read_checkpoint(path)
    sets = _SETS.get(backbone.family)
    if sets is None:
        raise ArtifactError(
            f"{path}: checkpoints of Li & Liang's code are read for {', '.join(_SETS)}, not for '{backbone.family}'"
        )
    _check_names(tensors, sets, path)
    stacks = {site.stack for site in backbone.sites}
    if stacks != sets.keys():
        raise ArtifactError(
            f"{path}: has prefixes for {', '.join(sets)}; '{backbone.name}' was loaded with {', '.join(stacks)} alone. "
            "Load it with its language model (--language-model)"
        )
    columns = {stack: prefix_columns(sites_of(backbone.sites, stack)) for stack in sets}
    matrices = {
        stack: read_matrix(
            tensors, f"{embedding}.weight", mlp, path, columns=columns[stack], width=backbone.hidden_size
        )
        for stack, (embedding, mlp) in sets.items()
    }
    method = _method(matrices, backbone.family == "gpt2", path)
    encoder = method.build(backbone)
    assert isinstance(encoder, PrefixSets)
    for stack, matrix in matrices.items():
        matrix.into(encoder.sets[stack].prompt)  # type: ignore[arg-type]
    return Foreign(method, encoder, "these checkpoints have none", [path])


def _method(matrices: Mapping[str, Matrix], shift: bool, path: Path) -> PrefixTuning:
    lengths = {len(matrix.embedding) for matrix in matrices.values()}
    if len(lengths) > 1:
        raise ArtifactError(f"{path}: its prefixes have different lengths ({', '.join(map(str, sorted(lengths)))})")
    widths = {matrix.hidden for matrix in matrices.values()}
    hidden = widths.pop() if len(widths) == 1 else None
    settings: dict[str, Any] = {"prompt_length": lengths.pop(), "shift_positions": shift}
    if hidden is None:  # a deeper MLP than ours, or of several widths: only what it makes is kept
        return PrefixTuning(reparameterization="direct", **settings)
    return PrefixTuning(reparameterization="mlp", mlp_hidden=hidden, **settings)


def _check_names(tensors: Mapping[str, Tensor], sets: Mapping[str, tuple[str, str]], path: Path) -> None:
    """Refuse other ways of that code to make a prefix: they would be read as something they are not."""
    for embedding, mlp in sets.values():
        for name in (f"{embedding}.weight", f"{mlp}.0.weight"):
            if name not in tensors:
                raise ArtifactError(f"{path}: '{name}' is missing, so it is no prefix with an MLP")
    begins = tuple(f"{part}." for pair in sets.values() for part in pair)
    for name in tensors:
        if not name.startswith(begins):
            raise ArtifactError(f"{path}: '{name}' is no part of a prefix, and cannot be left out either")
