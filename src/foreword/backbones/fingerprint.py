"""What a backbone is known by: digests that are the same for the same content, wherever it was loaded from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class BackboneIdentity:
    """Which backbone an artifact was made for.

    Attributes:
        name: hub name or folder, as the user gave it.
        revision: hub revision, or None for a folder.
        family: `transformers` model type, such as "bert".
        weights: sha256 over names, shapes and bytes of all weights of the trunk.
        language_model: the same of the whole language model, None where it was loaded without.
        dtype: of the weights, such as "float32".
        tokenizer: sha256 of the tokenizer's serialized form, without the settings of its last call; empty
            where a model reads images.
        quantization: of the weights, or None. After 'int8' the digests are still those of the weights
            before it; after bitsandbytes they are of what it made of them.
    """

    name: str
    revision: str | None
    family: str
    weights: str
    language_model: str | None
    dtype: str
    tokenizer: str
    quantization: str | None = None


def weights_digest(model: nn.Module) -> str:
    """sha256 (hex) over the names, types, shapes and bytes of a model's parameters and buffers."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def tokenizer_digest(tokenizer: Any) -> str:
    """sha256 (hex) over what a fast tokenizer does to a text.

    Truncation and padding are left out: they are settings of the last call, not of the tokenizer.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    kept = {key: value for key, value in content.items() if key not in ("truncation", "padding")}
    return sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
