"""The numbers of an artifact: written plainly, and read back as if a stranger had written them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from foreword.errors import ArtifactError, OutputError
from foreword.injection import KeyValue, Prefix, Site

HEAD, PREFIX = "head", "prefix"
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors to one file.

    Raises:
        OutputError: the file cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    try:
        save_file(plain, path)
    except SafetensorError as error:  # such as a full disk
        raise OutputError(f"{path}: cannot be written ({error})") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        ArtifactError: damaged, or a number in it is not finite.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error
    for name, tensor in tensors.items():
        if tensor.dtype in _FLOATS and not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(f"{path}: '{name}' holds values that are not finite")
    return tensors


def served_names(head: Mapping[str, Tensor], prefix: Prefix) -> dict[str, Tensor]:
    """Head and folded prompt under the names they have in the file; `read_served` is the way back."""
    named = {f"{HEAD}/{name}": tensor for name, tensor in head.items()}
    for site, pair in prefix.items():
        named[f"{PREFIX}/{site}/key"], named[f"{PREFIX}/{site}/value"] = pair
    return named


def read_served(path: Path) -> tuple[dict[str, Tensor], Prefix]:
    """Head and folded prompt of a file.

    Raises:
        ArtifactError: damaged, not finite, or a tensor has a name, type or shape that does not belong there.
    """
    head: dict[str, Tensor] = {}
    halves: dict[Site, dict[str, Tensor]] = {}
    for name, tensor in read_tensors(path).items():
        if tensor.dtype != torch.float32 or tensor.numel() == 0:
            raise ArtifactError(f"{path}: '{name}' is {tensor.dtype} {tuple(tensor.shape)}, expected float32 numbers")
        match name.split("/"):
            case ["head", inner]:
                head[inner] = tensor
            case ["prefix", site, ("key" | "value") as half]:
                halves.setdefault(_site(site, name, path), {})[half] = tensor
            case _:
                raise ArtifactError(f"{path}: '{name}' is no tensor of a head or a prompt")
    return head, _prefix(halves, path)


def check_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], message: str) -> None:
    """Refuse tensors whose names or shapes are not those of a module.

    Args:
        found: as read.
        wanted: the module's own.
        message: what the error begins with.

    Raises:
        ArtifactError: naming the first that differs.
    """
    shapes, expected = ({name: tuple(t.shape) for name, t in side.items()} for side in (found, wanted))
    for name in (*shapes, *expected):
        if shapes.get(name) != expected.get(name):
            raise ArtifactError(
                f"{message} ('{name}' is {shapes.get(name, 'missing')}, expected {expected.get(name, 'none')})"
            )


def _site(text: str, name: str, path: Path) -> Site:
    try:
        site = Site.parse(text)
    except ValueError:
        site = None
    if site is None or str(site) != text:  # not 'encoder.01', which would be a second 'encoder.1'
        raise ArtifactError(f"{path}: '{name}': '{text}' is no attention site, such as encoder.0")
    return site


def _prefix(halves: Mapping[Site, Mapping[str, Tensor]], path: Path) -> Prefix:
    """Keys and values put together, in the order of their sites."""
    prefix: dict[Site, KeyValue] = {}
    for site in sorted(halves):
        key, value = halves[site].get("key"), halves[site].get("value")
        if key is None or value is None or key.dim() != 3 or key.shape != value.shape:
            raise ArtifactError(f"{path}: keys and values at {site} do not match")
        prefix[site] = KeyValue(key, value)
    if len(lengths := {pair.key.shape[1] for pair in prefix.values()}) > 1:
        raise ArtifactError(f"{path}: its prompt has different lengths at different sites ({sorted(lengths)})")
    return prefix
