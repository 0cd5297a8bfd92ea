"""Digests of weights and tokenizers: the same for the same content, wherever it was loaded from."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import torch
from torch import nn


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
