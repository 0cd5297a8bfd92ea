"""The numbers of an artifact: written plainly, and read back as if a stranger had written them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from foreword.errors import ArtifactError, OutputError
from foreword.injection import Anchor, InputPrompt, KeyValue, Prefix, Prompt, Site

HEAD, PREFIX, ATTACHMENT = "head", "prefix", "attachment"
VECTORS, ANCHORS, DELTAS, FLAGS = "input/vectors", "input/anchors", "input/deltas", "prompt/flags"
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


def prompt_names(prompt: Prompt | None) -> dict[str, Tensor]:
    """The tensors of a folded prompt under the names they have in the file."""
    if prompt is None:
        return {}
    named: dict[str, Tensor] = {}
    for site, pair in prompt.prefix.items():
        named |= {f"{PREFIX}/{site}/{part}": tensor for part, tensor in pair._asdict().items() if tensor is not None}
    if prompt.inputs is not None:
        named[VECTORS] = prompt.inputs.vectors
        named[ANCHORS] = torch.tensor([int(anchor) for anchor in prompt.inputs.anchors], device="cpu")
        named |= {f"{DELTAS}/{layer}": delta for layer, delta in prompt.inputs.deltas.items()}
    if prompt.shift_positions or prompt.infix:
        named[FLAGS] = torch.tensor([int(prompt.shift_positions), int(prompt.infix)], device="cpu")
    return named


class Served(NamedTuple):
    """All that a file of served numbers holds.

    Attributes:
        head, attachment: tensors by name.
        prompt: folded, None where there is none.
    """

    head: dict[str, Tensor]
    attachment: dict[str, Tensor]
    prompt: Prompt | None


def served_names(
    head: Mapping[str, Tensor], prompt: Prompt | None, attachment: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Head, folded prompt and attachment under the names they have in the file; `read_served` is the way back."""
    named = {f"{HEAD}/{name}": tensor for name, tensor in head.items()} | prompt_names(prompt)
    return named | {f"{ATTACHMENT}/{name}": tensor for name, tensor in (attachment or {}).items()}


def read_served(path: Path) -> Served:
    """Head, folded prompt and attachment of a file.

    Raises:
        ArtifactError: damaged, not finite, or a tensor has a name, type or shape that does not belong there.
    """
    head: dict[str, Tensor] = {}
    attachment: dict[str, Tensor] = {}
    parts: dict[Site, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in read_tensors(path).items():
        wanted = torch.int64 if name in (ANCHORS, FLAGS) else torch.float32
        if tensor.dtype != wanted or tensor.numel() == 0:
            kind = str(wanted).removeprefix("torch.")
            raise ArtifactError(f"{path}: '{name}' is {tensor.dtype} {tuple(tensor.shape)}, expected {kind} numbers")
        match name.split("/"):
            case ["head", inner]:
                head[inner] = tensor
            case ["attachment", inner]:
                attachment[inner] = tensor
            case ["prefix", site, ("key" | "value" | "gate") as part]:
                parts.setdefault(_site(site, name, path), {})[part] = tensor
            case ["input", ("vectors" | "anchors")] | ["input", "deltas", _] | ["prompt", "flags"]:
                rest[name] = tensor
            case _:
                raise ArtifactError(f"{path}: '{name}' is no tensor of a head, a prompt or an attachment")
    if not parts and not rest:
        return Served(head, attachment, None)
    flags = rest.pop(FLAGS, torch.zeros(2)).tolist()
    if len(flags) != 2 or not set(flags) <= {0, 1}:
        raise ArtifactError(f"{path}: '{FLAGS}' is {flags}, expected two truth values")
    prefix, inputs = _prefix(parts, path), _inputs(rest, path)
    try:
        prompt = Prompt(prefix, inputs, shift_positions=bool(flags[0]), infix=bool(flags[1]))
    except ValueError as error:
        raise ArtifactError(f"{path}: {error}") from error
    return Served(head, attachment, prompt)


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


def _prefix(parts: Mapping[Site, Mapping[str, Tensor]], path: Path) -> Prefix:
    """Keys, values and gates put together, in the order of their sites."""
    prefix: dict[Site, KeyValue] = {}
    for site in sorted(parts):
        key, value, gate = (parts[site].get(name) for name in ("key", "value", "gate"))
        if key is None or value is None or key.dim() != 3 or key.shape != value.shape:
            raise ArtifactError(f"{path}: keys and values at {site} do not match")
        if gate is not None and gate.dim() != 1:
            raise ArtifactError(f"{path}: the gate at {site} is {tuple(gate.shape)}, expected one number per head")
        prefix[site] = KeyValue(key, value, gate)
    if len(lengths := {pair.key.shape[1] for pair in prefix.values()}) > 1:
        raise ArtifactError(f"{path}: its prompt has different lengths at different sites ({sorted(lengths)})")
    return prefix


def _inputs(tensors: Mapping[str, Tensor], path: Path) -> InputPrompt | None:
    """Vectors, their anchors and their deltas put together."""
    if not tensors:
        return None
    if VECTORS not in tensors or ANCHORS not in tensors:
        raise ArtifactError(f"{path}: an input prompt needs both '{VECTORS}' and '{ANCHORS}'")
    vectors, places = tensors[VECTORS], tensors[ANCHORS]
    if vectors.dim() != 2 or places.shape != vectors.shape[:1] or not set(places.tolist()) <= set(Anchor):
        raise ArtifactError(f"{path}: '{VECTORS}' and '{ANCHORS}' do not match")
    deltas: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if not name.startswith(f"{DELTAS}/"):
            continue
        layer = name.rpartition("/")[2]
        if not (layer.isascii() and layer.isdigit() and str(int(layer)) == layer):
            raise ArtifactError(f"{path}: '{name}': '{layer}' is no number of a layer")
        if tensor.dim() != 2 or tensor.shape[0] != vectors.shape[0]:
            raise ArtifactError(f"{path}: '{name}' is {tuple(tensor.shape)}, expected {vectors.shape[0]} rows")
        deltas[int(layer)] = tensor
    return InputPrompt(vectors, tuple(Anchor(place) for place in places.tolist()), dict(sorted(deltas.items())))
