"""What commands share: arguments that several of them have, and from an artifact's folder to a predictor."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from foreword.cli.scaling import refuse
from foreword.errors import RecipeError, RegistryError

if TYPE_CHECKING:
    from foreword.artifacts.format import Artifact
    from foreword.backbones import Backbone
    from foreword.inference.engine import Engine, Vote
    from foreword.inference.ensemble import Ensemble
    from foreword.inference.predictor import Predictor

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A TOML file, or the name of a packaged recipe.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change a value of the recipe; may be repeated."),
]
_TOGETHER = typer.Argument(
    metavar="ARTIFACT",
    help="An artifact, or the folder of the run that made it; several answer together, as an ensemble.",
)
ArtifactPaths = Annotated[list[Path], _TOGETHER]
AnyArtifactPaths = Annotated[list[Path] | None, _TOGETHER]
VoteName = Annotated[
    Literal["mean", "majority"] | None,
    typer.Option(
        "--vote", help="Of several: the mean of their probabilities decides, or what most say. (default: mean)"
    ),
]
ArtifactPath = Annotated[
    Path, typer.Argument(metavar="ARTIFACT", help="An artifact, or the folder of the run that made it.")
]
BackboneName = Annotated[
    str | None,
    typer.Option("--backbone", help="Folder or hub name, where it is not the one in the artifact; it is checked."),
]

DeviceName = Annotated[
    str | None,
    typer.Option("--device", help="Where to compute, such as cpu or cuda:1. (default: the GPU, if there is one)"),
]

TrunkPlace = Annotated[
    Literal["memory", "disk"] | None,
    typer.Option(
        "--trunk-cache", help="Keep what the layers below the prompt make of each text, for texts that come again."
    ),
]
TrunkBytes = Annotated[
    str | None, typer.Option("--trunk-cache-bytes", metavar="SIZE", help="With --trunk-cache: its most bytes; 2GB.")
]

_ENGINE_BUDGET = 1 << 30
"""Bytes of prompts and heads that one command keeps in memory."""


def size_option(option: str, text: str) -> int:
    """Bytes that an option such as ``--budget 200MB`` stands for.

    Raises:
        RecipeError: it is no size.
    """
    from foreword.caching import size_in_bytes

    try:
        return size_in_bytes(text)
    except ValueError as error:
        raise RecipeError(f"{option}: {error}") from error


def check_together(
    artifacts: int, vote: str | None, trunk: str | None, trunk_bytes: str | None, registry: Path | None = None
) -> None:
    """Refuse options that are not for so many artifacts.

    Raises:
        RecipeError: naming the option.
    """
    if artifacts > 1 or registry is not None:
        refuse(
            {"--trunk-cache": trunk, "--trunk-cache-bytes": trunk_bytes},
            "is for one ARTIFACT; an engine runs equal texts once by itself",
        )
    if artifacts < 2:
        refuse({"--vote": vote}, "is for several artifacts, which answer together")


def open_predictor(
    artifact: Path,
    backbone: str | None,
    batch_size: int = 32,
    *,
    trunk: Literal["memory", "disk"] | None = None,
    trunk_bytes: str | None = None,
    device: str | None = None,
) -> Predictor:
    """A predictor on the artifact's own backbone, or the same one from another place.

    Raises:
        ArtifactError, BackboneError: saying what is wrong with which.
        RecipeError: the size of the trunk cache is none.
        MethodError: the artifact can have no trunk cache.
    """
    if trunk is None and trunk_bytes is not None:
        raise RecipeError("--trunk-cache-bytes needs --trunk-cache")
    from foreword.artifacts.format import load_artifact
    from foreword.caching import BUDGET
    from foreword.inference.predictor import Predictor

    size = BUDGET if trunk_bytes is None else size_option("--trunk-cache-bytes", trunk_bytes)
    found = load_artifact(artifact)
    return Predictor(found, _backbone(found, backbone, device), batch_size, trunk_cache=trunk, trunk_cache_bytes=size)


def _backbone(artifact: Artifact, name: str | None, device: str | None) -> Backbone:
    """The backbone of an artifact, or the same one from another place."""
    from foreword.backbones import device_named, load_backbone
    from foreword.inference.predictor import backbone_of

    if name is None:
        return backbone_of(artifact, device=device)
    whole = artifact.manifest.backbone.language_model is not None
    return load_backbone(name, language_model=whole, device=device_named(device))


def open_ensemble(
    artifacts: Sequence[Path], vote: Vote, backbone: str | None, batch_size: int = 64, *, device: str | None = None
) -> Ensemble:
    """Artifacts that answer together, on the backbone of the first or the same one from another place.

    Raises:
        ArtifactError, BackboneError: saying what is wrong with which.
        TaskError: one comes twice, or they cannot answer together.
    """
    from foreword.inference.ensemble import Ensemble, load_members

    found = load_members(artifacts)
    model = _backbone(found[str(artifacts[0])], backbone, device)
    return Ensemble(found, model, vote=vote, batch_size=batch_size)


def open_engine(registry: Path, backbone: str | None, batch_size: int, *, device: str | None = None) -> Engine:
    """An engine over all tasks of a registry, on the backbone they were made for or the same one from another place.

    Raises:
        RegistryError, BackboneError: saying what is wrong with which.
    """
    from foreword.backbones import device_named, load_backbone
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
        device=device_named(device),
    )
    return Engine(model, found, budget=_ENGINE_BUDGET, batch_size=batch_size)
