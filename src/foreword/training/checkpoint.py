"""One file that holds everything a run needs to go on to the same bits.

Tensors (what is trained, the best so far, the optimizer's moments, the random state) and a JSON
header in one safetensors file, written beside the old one and renamed over it: a run that is
killed at any moment finds either the old checkpoint or the new one. No pickle.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from foreword.errors import CheckpointError

VERSION = 2


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: epochs completed.
        step: optimizer steps done. Epochs have equally many, so it says how far the current one is, too.
        best_value, best_step: best dev score so far and when; None before the first evaluation.
        stale: evaluations since the best.
        seconds: time spent training, over all sittings.
        tokens: real tokens seen.
        evaluations: one entry per evaluation, as logged.
        epoch_loss_sum, epoch_loss_count: running mean loss since the last evaluation.
    """

    epoch: int = 0
    step: int = 0
    best_value: float | None = None
    best_step: int = 0
    stale: int = 0
    seconds: float = 0.0
    tokens: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    evaluations: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    path: Path,
    *,
    recipe: str,
    progress: Progress,
    state: dict[str, Tensor],
    best: dict[str, Tensor] | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: the file; its folder exists.
        recipe: a digest of what is being trained, checked on resume.
        progress, state, best, optimizer: where the run stands.
    """
    tensors = {f"state/{name}": t for name, t in state.items()}
    tensors |= {f"best/{name}": t for name, t in (best or {}).items()}
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{slot}": t.detach().cpu() for slot, t in slots.items()}
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    header = json.dumps({"version": VERSION, "recipe": recipe, "progress": asdict(progress)})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, temporary, {"foreword": header})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read back."""

    recipe: str
    progress: Progress
    tensors: dict[str, Tensor]

    def group(self, name: str) -> dict[str, Tensor]:
        """Tensors under ``name/``, without it."""
        return {k.removeprefix(f"{name}/"): t for k, t in self.tensors.items() if k.startswith(f"{name}/")}

    def restore_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Put the moments back."""
        slots: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self.group("optimizer").items():
            number, slot = key.split("/")
            slots.setdefault(int(number), {})[slot] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})

    def restore_random(self) -> None:
        """Put torch's generators back; nothing else here draws random numbers."""
        torch.set_rng_state(self.tensors["random/cpu"])
        if "random/cuda" in self.tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(self.tensors["random/cuda"])


def load_checkpoint(path: Path, recipe: str) -> Checkpoint:
    """Read a checkpoint and see that it belongs to this run.

    Raises:
        CheckpointError: missing, damaged, or of another recipe.
    """
    progress = check_checkpoint(path, recipe)
    try:
        return Checkpoint(recipe, progress, load_file(path))
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def check_checkpoint(path: Path, recipe: str) -> Progress:
    """See that a checkpoint belongs to this run by its header alone, without reading its tensors.

    Returns:
        Where the run stands.

    Raises:
        CheckpointError: missing, damaged, or of another recipe.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no checkpoint to resume from. Run without --resume to start anew")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["foreword"])
        found, progress = header["recipe"], Progress(**header["progress"])
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise _damaged(path, error) from error
    if header.get("version") != VERSION:
        raise CheckpointError(
            f"{path}: has version {header.get('version')}, expected {VERSION}. Resume with the release of "
            "Foreword that wrote it, or choose another --output"
        )
    if found != recipe:
        raise CheckpointError(
            f"{path}: belongs to another recipe or other data. Resume with the recipe it was started "
            "with, or choose another --output"
        )
    return progress


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: damaged or not a checkpoint of this version ({error})")
