"""Tensors and settings of foreign files, read as if a stranger had written them: numbers only, and finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foreword.artifacts.tensors import read_tensor_file
from foreword.data.readers.base import parse_json
from foreword.errors import ArtifactError


def find_file(source: Path, names: Iterable[str]) -> Path:
    """The file meant by ``source``: itself, or the first of ``names`` that lies in it.

    Raises:
        ArtifactError: there is none.
    """
    if source.is_file():
        return source
    wanted = list(names)
    for name in wanted:
        if (source / name).is_file():
            return source / name
    if not source.exists():
        raise ArtifactError(f"{source}: no such file or folder")
    raise ArtifactError(f"{source}: holds none of {', '.join(wanted)}")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Tensors by name, of a .safetensors file or of one that ``torch.save`` wrote.

    Of a pickle nothing but tensors in plain containers is taken; whatever else it asks for is refused.

    Raises:
        ArtifactError: it cannot be read, is no table of tensors, or holds values that are not finite.
    """
    if path.suffix == ".safetensors":
        return read_tensor_file(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no checkpoint surfaces as any of a dozen types
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactError(f"{path}: cannot be read as plain tensors ({reason})") from error
    if not isinstance(loaded, Mapping):
        raise ArtifactError(f"{path}: holds a {type(loaded).__name__}, expected a table of tensors")
    for name, tensor in loaded.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            raise ArtifactError(f"{path}: {name!r:.60} is a {kind}, expected tensors by name")
        _check_finite(tensor, name, path)
    return dict(loaded)


def read_array(path: Path) -> Tensor:
    """One array that ``numpy.save`` wrote, whatever the file is called.

    Raises:
        ArtifactError: it cannot be read without unpickling, or holds no finite numbers.
    """
    try:
        with path.open("rb") as file:
            array = np.load(file, allow_pickle=False)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, EOFError) as error:  # numpy's own words would advise to unpickle
        raise ArtifactError(f"{path}: is no numpy array of plain numbers") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise ArtifactError(f"{path}: holds {kind}, expected one array of floating-point numbers")
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
    _check_finite(tensor, "the array", path)
    return tensor


def read_settings(path: Path) -> dict[str, Any]:
    """A JSON file with a table in it.

    Raises:
        ArtifactError: it is missing or something else.
    """
    try:
        raw = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error
    if not isinstance(raw, dict):
        raise ArtifactError(f"{path}: expected a table of settings")
    return raw


def float32(tensor: Tensor, name: str, shape: tuple[int | None, ...], path: Path) -> Tensor:
    """A tensor as artifacts hold it, after its shape is checked.

    Args:
        tensor: as read.
        name: for messages.
        shape: expected size of every axis; None where any will do.
        path: of its file.

    Raises:
        ArtifactError: it has another shape, is empty, or has numbers that float32 cannot hold.
    """
    found = tuple(tensor.shape)
    fits = len(found) == len(shape) and all(want in (None, size) for want, size in zip(shape, found, strict=False))
    if not fits or tensor.numel() == 0 or not tensor.is_floating_point():
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ArtifactError(
            f"{path}: '{name}' is {tensor.dtype} {found}, expected floating-point numbers ({wanted}). "
            "Is it for another backbone?"
        )
    converted = tensor.to(torch.float32)
    _check_finite(converted, name, path)
    return converted.contiguous()


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _check_finite(tensor: Tensor, name: str, path: Path) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise ArtifactError(f"{path}: '{name}' holds values that are not finite")
