"""From a PEFT adapter to a prompt and a head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from foreword.backbones import Backbone
from foreword.errors import ArtifactError
from foreword.exchange.foreign import Foreign, ForeignHead, encoder_of
from foreword.exchange.heads import linear, pooler_layer
from foreword.exchange.layout import prefix_of
from foreword.exchange.peft.adapter import (
    CONFIG,
    EMBEDDINGS,
    KINDS,
    MODEL,
    PICKLE,
    POOLER,
    TASK_TYPES,
    WEIGHTS,
    check_prefix,
    check_vectors,
    head_names,
)
from foreword.exchange.reading import find_file, float32, read_checkpoint, read_settings
from foreword.injection import Anchor, InputPrompt, Prompt
from foreword.methods import Method, PromptTuning, PTuningV2
from foreword.methods.making.prefix import prefix_columns
from foreword.tasks import Task


def read_peft(source: Path, backbone: Backbone, task: Task[Any, Any]) -> Foreign:
    """A prompt, and the head where PEFT's model reads the text with it as ours would.

    Args:
        source: the adapter's folder.
        backbone: the one it was trained on.
        task: what it is for.

    Raises:
        ArtifactError: it is no such adapter, or not of this backbone and task.
    """
    config = find_file(source, [CONFIG])
    path = find_file(config.parent, [WEIGHTS, PICKLE])
    settings, tensors = read_settings(config), read_checkpoint(path)
    _check_settings(settings, task, config)
    prefixed = settings["peft_type"] == "PREFIX_TUNING"
    method, prompt = (_prefix if prefixed else _vectors)(tensors, settings, backbone, path)
    base = settings.get("base_model_name_or_path")
    return Foreign(
        method,
        encoder_of(method, prompt, backbone, path),
        _head(tensors, task, backbone, path, vectors=not prefixed),
        [config, path],
        {"peft_type": settings["peft_type"], **({"base_model": Path(base).name} if isinstance(base, str) else {})},
        _warnings(base, backbone),
    )


def _check_settings(settings: Mapping[str, Any], task: Task[Any, Any], config: Path) -> None:
    kind, length = settings.get("peft_type"), settings.get("num_virtual_tokens")
    if kind not in KINDS:
        raise ArtifactError(f"{config}: peft_type is {kind!r:.60}; PEFT's prompts are {', '.join(KINDS)}")
    if not isinstance(length, int) or length < 1:
        raise ArtifactError(f"{config}: num_virtual_tokens is {length!r:.60}, expected a whole number above 0")
    wanted = TASK_TYPES.get(str(settings.get("task_type")))
    if wanted is not None and not isinstance(task, wanted):
        raise ArtifactError(
            f"{config}: task_type is '{settings['task_type']}', which is --task {wanted.name}, not '{task.name}'"
        )


def _prefix(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], backbone: Backbone, path: Path
) -> tuple[Method, Prompt]:
    """Keys and values at every layer."""
    check_prefix(backbone, str(path))
    shape = (settings["num_virtual_tokens"], prefix_columns(backbone.sites))
    matrix = float32(_embeddings(tensors, path), EMBEDDINGS, shape, path)
    prompt = Prompt(prefix_of(matrix, backbone.sites), shift_positions=True)
    return PTuningV2(prompt_length=len(matrix), shift_positions=True), prompt


def _vectors(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], backbone: Backbone, path: Path
) -> tuple[Method, Prompt]:
    """Vectors in front of the text; of the two halves for an encoder-decoder PEFT itself reads only the first."""
    check_vectors(backbone, str(path))
    length, halves = settings["num_virtual_tokens"], settings.get("num_transformer_submodules") or 1
    embeddings = float32(_embeddings(tensors, path), EMBEDDINGS, (length * halves, backbone.embedding_size), path)
    vectors = embeddings[:length].contiguous()
    prompt = Prompt(inputs=InputPrompt(vectors, (Anchor.FRONT,) * length))
    return PromptTuning(prompt_length=length), prompt


def _embeddings(tensors: Mapping[str, Tensor], path: Path) -> Tensor:
    if EMBEDDINGS not in tensors:
        raise ArtifactError(f"{path}: has no '{EMBEDDINGS}'")
    return tensors[EMBEDDINGS]


def _head(
    tensors: Mapping[str, Tensor], task: Task[Any, Any], backbone: Backbone, path: Path, *, vectors: bool
) -> ForeignHead | str:
    """The head, or why there is none that ours could be."""
    trained = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name != EMBEDDINGS}
    found = {name.rpartition(".")[0] for name in trained}
    if not found:
        return "there is none in it"
    wanted = head_names(task, backbone, vectors=vectors)
    if isinstance(wanted, str):
        return wanted
    if found not in ({*wanted.layers}, {*wanted.layers} - {POOLER}):
        return f"it has {', '.join(sorted(found))}, expected {', '.join(wanted.layers)}"
    layers = [linear(trained, name, backbone.hidden_size, path) for name in wanted.layers if name in found]
    if POOLER in wanted.layers and POOLER not in found:
        pooler = pooler_layer({}, backbone, path)
        if isinstance(pooler, str):
            return pooler
        layers.insert(0, pooler)
    return ForeignHead(wanted.reads, layers)


def _warnings(base: Any, backbone: Backbone) -> list[str]:
    """PEFT keeps no fingerprint of the weights, only a name."""
    if isinstance(base, str) and Path(base).name != Path(backbone.name).name:
        return [f"the adapter names the model '{base}', not '{backbone.name}'; only the sizes could be checked"]
    return []
