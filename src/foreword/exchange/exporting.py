"""From an artifact to a foreign format."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from foreword.artifacts.format import Artifact
from foreword.errors import RecipeError
from foreword.exchange.google import write_google
from foreword.exchange.peft import write_peft


class Writer(Protocol):
    """Writes an artifact in a foreign format."""

    def __call__(self, artifact: Artifact, output: Path, *, backbone: str | None, prompt_only: bool) -> None:
        """Write it whole or not at all."""


EXPORTS: dict[str, Writer] = {"peft": write_peft, "google": write_google}
"""Formats that can be written."""


def export_prompt(
    form: str, artifact: Artifact, output: Path, *, backbone: str | None = None, prompt_only: bool = False
) -> None:
    """Write an artifact in a foreign format.

    Args:
        form: a key of `EXPORTS`.
        artifact: read and checked.
        output: file or folder, not there yet.
        backbone: where the backbone's config is, if not where the artifact says; no weights are read.
        prompt_only: leave the head out.

    Raises:
        ArtifactError: the format has no words for something in it; the message says for what.
        BackboneError: the backbone's config cannot be had.
        OutputError: something is at ``output``, or it cannot be written.
    """
    if form not in EXPORTS:
        raise RecipeError(f"no format '{form}' to export to; there are: {', '.join(EXPORTS)}")
    EXPORTS[form](artifact, output, backbone=backbone, prompt_only=prompt_only)
