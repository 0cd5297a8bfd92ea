"""The numbers of an artifact: written plainly, and read back as if a stranger had written them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from foreword.artifacts.header import check_header
from foreword.errors import ArtifactError, OutputError
from foreword.injection import Anchor, InputPrompt, KeyValue, Mixture, Modulation, Prefix, Prompt, Site

HEAD, PREFIX, ATTACHMENT, MODULATION = "head", "prefix", "attachment", "modulation"
VECTORS, ANCHORS, DELTAS, FLAGS = "input/vectors", "input/anchors", "input/deltas", "prompt/flags"
MIXTURE, LOG_WEIGHTS = "mixture", "mixture/log_weights"
_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_ROUNDING = 1e-4
"""By how much the logarithm of a sum of weights in float32 may differ from 0."""


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


def read_tensors(content: bytes, where: Path) -> dict[str, Tensor]:
    """All tensors of a file whose header was checked, in the order of their names.

    Args:
        content: of the file.
        where: what errors begin with.

    Raises:
        ArtifactError: damaged, or a number in it is not finite.
    """
    try:
        tensors = dict(sorted(load(content).items()))  # theirs is another order each time
    except (SafetensorError, KeyError, ValueError) as error:
        raise ArtifactError(f"{where}: cannot be read ({error})") from error
    for name, tensor in tensors.items():
        if tensor.dtype in _FLOATS and not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(f"{where}: '{name}' holds values that are not finite")
    return tensors


def read_tensor_file(path: Path) -> dict[str, Tensor]:
    """All tensors of a file that no manifest speaks of.

    Raises:
        ArtifactError: as for `read_tensors`, or its header is not one.
    """
    try:
        with path.open("rb") as file:
            check_header(file, path.stat().st_size, path)
            file.seek(0)
            return read_tensors(file.read(), path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error


def prompt_names(prompt: Prompt | Mixture | None) -> dict[str, Tensor]:
    """The tensors of a folded prompt under the names they have in the file."""
    if prompt is None:
        return {}
    named: dict[str, Tensor] = {}
    if isinstance(prompt, Mixture):
        for number, one in enumerate(prompt.prompts):
            named |= {f"{MIXTURE}/{number}/{name}": tensor for name, tensor in prompt_names(one).items()}
        return {**named, LOG_WEIGHTS: prompt.log_weights}
    for site, pair in prompt.prefix.items():
        named |= {f"{PREFIX}/{site}/{part}": tensor for part, tensor in pair._asdict().items() if tensor is not None}
    if prompt.inputs is not None:
        named[VECTORS] = prompt.inputs.vectors
        named[ANCHORS] = torch.tensor([int(anchor) for anchor in prompt.inputs.anchors], device="cpu")
        named |= {f"{DELTAS}/{layer}": delta for layer, delta in prompt.inputs.deltas.items()}
    for layer, change in prompt.modulations.items():
        named |= {f"{MODULATION}/{layer}/{part}": tensor for part, tensor in change._asdict().items()}
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
    prompt: Prompt | Mixture | None


def served_names(
    head: Mapping[str, Tensor], prompt: Prompt | Mixture | None, attachment: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Head, folded prompt and attachment under the names they have in the file; `read_served` is the way back."""
    named = {f"{HEAD}/{name}": tensor for name, tensor in head.items()} | prompt_names(prompt)
    return named | {f"{ATTACHMENT}/{name}": tensor for name, tensor in (attachment or {}).items()}


def read_served(content: bytes, path: Path) -> Served:
    """Head, folded prompt and attachment of a file whose header was checked.

    Raises:
        ArtifactError: damaged, not finite, or a tensor has a name, type or shape that does not belong there.
    """
    head: dict[str, Tensor] = {}
    attachment: dict[str, Tensor] = {}
    mixed: dict[str, dict[str, Tensor]] = {}
    log_weights: Tensor | None = None
    rest: dict[str, Tensor] = {}
    for name, tensor in read_tensors(content, path).items():
        match name.split("/"):
            case ["head", inner]:
                head[inner] = _numbers(tensor, name, path)
            case ["attachment", inner]:
                attachment[inner] = _numbers(tensor, name, path)
            case ["mixture", "log_weights"]:
                log_weights = _numbers(tensor, name, path)
            case ["mixture", number, *inner]:
                mixed.setdefault(number, {})["/".join(inner)] = tensor
            case _:
                rest[name] = tensor
    prompt: Prompt | Mixture | None = _prompt(rest, path) if rest else None
    if mixed or log_weights is not None:
        if prompt is not None:
            raise ArtifactError(f"{path}: holds a prompt besides a mixture of prompts")
        prompt = _mixture(mixed, log_weights, path)
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


def _numbers(tensor: Tensor, name: str, where: Path | str) -> Tensor:
    """A tensor that is not empty, of the type that its name asks for."""
    wanted = torch.int64 if name in (ANCHORS, FLAGS) else torch.float32
    if tensor.dtype != wanted or tensor.numel() == 0:
        kind = str(wanted).removeprefix("torch.")
        raise ArtifactError(f"{where}: '{name}' is {tensor.dtype} {tuple(tensor.shape)}, expected {kind} numbers")
    return tensor


def _mixture(mixed: Mapping[str, Mapping[str, Tensor]], log_weights: Tensor | None, path: Path) -> Mixture:
    """Prompts by their numbers in words, and their weights, put together."""
    numbers = [str(number) for number in range(len(mixed))]
    if sorted(mixed) != sorted(numbers):
        raise ArtifactError(f"{path}: its mixture has prompts {', '.join(sorted(mixed))}, expected 0, 1 and so on")
    if log_weights is None or log_weights.shape != (len(mixed),):
        found = "missing" if log_weights is None else str(tuple(log_weights.shape))
        raise ArtifactError(f"{path}: '{LOG_WEIGHTS}' is {found}, expected one number for each of {len(mixed)} prompts")
    if abs(float(log_weights.double().logsumexp(0))) > _ROUNDING:
        raise ArtifactError(f"{path}: the weights in '{LOG_WEIGHTS}' do not add up to 1")
    prompts = tuple(_prompt(mixed[number], f"{path}: {MIXTURE}/{number}") for number in numbers)
    return Mixture(prompts, log_weights)


def _prompt(tensors: Mapping[str, Tensor], where: Path | str) -> Prompt:
    """One prompt out of its tensors by name."""
    parts: dict[Site, dict[str, Tensor]] = {}
    changes: dict[int, dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match name.split("/"):
            case ["prefix", site, ("key" | "value" | "gate") as part]:
                parts.setdefault(_site(site, name, where), {})[part] = _numbers(tensor, name, where)
            case ["modulation", layer, ("scale" | "shift") as part]:
                changes.setdefault(_layer(layer, name, where), {})[part] = _numbers(tensor, name, where)
            case ["input", ("vectors" | "anchors")] | ["input", "deltas", _] | ["prompt", "flags"]:
                rest[name] = _numbers(tensor, name, where)
            case _:
                raise ArtifactError(f"{where}: '{name}' is no tensor of a head, a prompt or an attachment")
    flags = rest.pop(FLAGS, torch.zeros(2)).tolist()
    if len(flags) != 2 or not set(flags) <= {0, 1}:
        raise ArtifactError(f"{where}: '{FLAGS}' is {flags}, expected two truth values")
    prefix, inputs, modulations = _prefix(parts, where), _inputs(rest, where), _modulations(changes, where)
    try:
        return Prompt(prefix, inputs, bool(flags[0]), bool(flags[1]), modulations)
    except ValueError as error:
        raise ArtifactError(f"{where}: {error}") from error


def _site(text: str, name: str, path: Path | str) -> Site:
    try:
        site = Site.parse(text)
    except ValueError:
        site = None
    if site is None or str(site) != text:  # not 'encoder.01', which would be a second 'encoder.1'
        raise ArtifactError(f"{path}: '{name}': '{text}' is no attention site, such as encoder.0")
    return site


def _prefix(parts: Mapping[Site, Mapping[str, Tensor]], path: Path | str) -> Prefix:
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


def _modulations(changes: Mapping[int, Mapping[str, Tensor]], path: Path | str) -> dict[int, Modulation]:
    """Scales and shifts put together, in the order of their layers."""
    found: dict[int, Modulation] = {}
    for layer, parts in sorted(changes.items()):
        scale, shift = (parts.get(name) for name in Modulation._fields)
        if scale is None or shift is None or scale.dim() != 1 or scale.shape != shift.shape:
            raise ArtifactError(f"{path}: scale and shift at layer {layer} do not match")
        found[layer] = Modulation(scale, shift)
    return found


def _layer(text: str, name: str, path: Path | str) -> int:
    if not (text.isascii() and text.isdigit() and str(int(text)) == text):
        raise ArtifactError(f"{path}: '{name}': '{text}' is no number of a layer")
    return int(text)


def _inputs(tensors: Mapping[str, Tensor], path: Path | str) -> InputPrompt | None:
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
        layer = _layer(name.rpartition("/")[2], name, path)
        if tensor.dim() != 2 or tensor.shape[0] != vectors.shape[0]:
            raise ArtifactError(f"{path}: '{name}' is {tuple(tensor.shape)}, expected {vectors.shape[0]} rows")
        deltas[layer] = tensor
    return InputPrompt(vectors, tuple(Anchor(place) for place in places.tolist()), dict(sorted(deltas.items())))
