"""Artifacts that answer one text in very different ways, so that a row answered by another task is told at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from foreword.artifacts.format import Artifact


def numbers(answer) -> list[float]:
    return [answer["probabilities"][label] for label in sorted(answer["probabilities"])]


def canary(artifact: Artifact, seed: int) -> Artifact:
    """The same task with a prompt, and a head, that say something else of every text."""
    generator = torch.Generator().manual_seed(seed)

    def other(tensor: torch.Tensor, scale: float = 1.5) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator) * scale

    prompt = artifact.prompt and artifact.prompt.map(other)
    return replace(artifact, prompt=prompt, head={name: other(tensor, 0.2) for name, tensor in artifact.head.items()})


def same(one, other) -> bool:
    """Equal, numbers but for rounding."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == pytest.approx(other, abs=1e-4) if isinstance(one, float) else one == other
