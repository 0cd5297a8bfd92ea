"""What commands share: arguments that several of them have, and from an artifact's folder to a predictor."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foreword.errors import RegistryError

if TYPE_CHECKING:
    from foreword.inference.engine import Engine
    from foreword.inference.predictor import Predictor

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a packaged recipe.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe; may be repeated."),
]
ArtifactPath = Annotated[
    Path, typer.Argument(metavar="ARTIFACT", help="An artifact, or the folder of the run that made it.")
]
BackboneName = Annotated[
    str | None,
    typer.Option("--backbone", help="Folder or hub name, where it is not the one in the artifact; it is checked."),
]

_ENGINE_BUDGET = 1 << 30
"""Bytes of prompts and heads that one command keeps in memory."""


def open_predictor(artifact: Path, backbone: str | None, batch_size: int = 32) -> Predictor:
    """A predictor on the artifact's own backbone, or the same one from another place.

    Raises:
        ArtifactError, BackboneError: saying what is wrong with which.
    """
    from foreword.artifacts.format import load_artifact
    from foreword.backbones import load_backbone
    from foreword.inference.predictor import Predictor

    found = load_artifact(artifact)
    if backbone is None:
        return Predictor(found, None, batch_size)
    speaks = found.manifest.backbone.language_model is not None
    return Predictor(found, load_backbone(backbone, language_model=speaks), batch_size)


def open_engine(registry: Path, backbone: str | None, batch_size: int) -> Engine:
    """An engine over all tasks of a registry, on the backbone they were made for or the same one from another place.

    Raises:
        RegistryError, BackboneError: saying what is wrong with which.
    """
    from foreword.backbones import load_backbone
    from foreword.inference.engine import Engine
    from foreword.registry import Registry

    found, entries = Registry(registry), []
    for task in found.names():
        with suppress(RegistryError):  # one that is damaged is told of when a line asks for it
            entries.append(found.resolve(task).manifest.backbone)
    names = sorted({entry.name for entry in entries})
    if not names:
        raise RegistryError(f"{registry}: holds no task yet. Publish one with `foreword registry add`")
    if backbone is None and len(names) > 1:
        raise RegistryError(
            f"{registry}: its tasks are for several backbones. Choose with --backbone: {', '.join(names)}"
        )
    chosen = backbone or names[0]
    own = [entry for entry in entries if entry.name == chosen] or entries
    model = load_backbone(
        chosen,
        revision=own[0].revision if backbone is None else None,
        language_model=any(entry.language_model is not None for entry in own),
    )
    return Engine(model, found, budget=_ENGINE_BUDGET, batch_size=batch_size)
