"""What commands share: arguments that several of them have, and from an artifact's folder to a predictor."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
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
