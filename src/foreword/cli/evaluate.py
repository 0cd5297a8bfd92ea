"""`foreword evaluate`: the scores of an artifact on labelled data."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from foreword.cli.loading import (
    ArtifactPaths,
    BackboneName,
    DeviceName,
    TrunkBytes,
    TrunkPlace,
    VoteName,
    check_together,
    open_ensemble,
    open_predictor,
)
from foreword.cli.printing import examples, print_table, warn
from foreword.errors import ArtifactError

if TYPE_CHECKING:
    from foreword.artifacts.format import Artifact
    from foreword.data.sources import Source
    from foreword.inference.engine import Evaluated
    from foreword.metrics.scores import Scores

EXAMPLES = examples(
    "foreword evaluate runs/tickets --data test.jsonl",
    "foreword evaluate runs/people --data hub:owner/name --split test --json",
    "foreword evaluate runs/tickets-1 runs/tickets-2 runs/tickets-3 --data test.jsonl --vote majority",
)


def evaluate(
    artifacts: ArtifactPaths,
    *,
    data: Annotated[list[str], typer.Option("--data", help="Labelled file; may be repeated.")],
    vote: VoteName = None,
    format: Annotated[
        str | None,
        typer.Option(help="How the file is written, such as jsonl or squad. (default: as in the recipe)"),
    ] = None,
    split: Annotated[str | None, typer.Option(help="datasets: which split. (default: as in the recipe)")] = None,
    backbone: BackboneName = None,
    device: DeviceName = None,
    trunk_cache: TrunkPlace = None,
    trunk_cache_bytes: TrunkBytes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score an artifact on labelled data, or several that answer together and each of them alone.

    Files are read as the recipe's dev data were, unless an option says otherwise.

    Values are fractions between 0 and 1, or correlations; errors are in the data's own units.
    """
    check_together(len(artifacts), vote, trunk_cache, trunk_cache_bytes)
    if len(artifacts) > 1:
        ensemble = open_ensemble(artifacts, vote or "mean", backbone, device=device)
        evaluated = ensemble.evaluate(data_source(ensemble.artifact, data, format, split))
        for warning in ensemble.warnings:
            warn(warning)
        _tell_ensemble(artifacts, evaluated, as_json=as_json)
        return
    predictor = open_predictor(artifacts[0], backbone, trunk=trunk_cache, trunk_bytes=trunk_cache_bytes, device=device)
    scores = predictor.evaluate(data_source(predictor.artifact, data, format, split))
    for warning in predictor.warnings:
        warn(warning)
    if as_json:
        typer.echo(json.dumps(scores.to_json()))
        return
    _print_scores(scores)


def _tell_ensemble(artifacts: list[Path], evaluated: Evaluated, *, as_json: bool) -> None:
    """The scores of an ensemble, and beside them what its members have alone."""
    if as_json:
        members = [
            {"artifact": str(path), **scores.to_json()}
            for path, scores in zip(artifacts, evaluated.members, strict=True)
        ]
        typer.echo(json.dumps({**evaluated.scores.to_json(), "agreement": evaluated.agreement, "members": members}))
        return
    _print_scores(evaluated.scores)
    values = [scores.main_value for scores in evaluated.members]
    rows = [(str(path), f"{value:.4f}") for path, value in zip(artifacts, values, strict=True)]
    rows += [("mean", f"{fmean(values):.4f} ± {stdev(values):.4f}"), ("agreement", f"{evaluated.agreement:.4f}")]
    typer.echo()
    print_table(rows, ("alone", evaluated.scores.main))


def _print_scores(scores: Scores) -> None:
    """Metrics and counts of the whole, and where there are any, a row for every class or type."""
    cells = {name: f"{value:.4f}" for name, value in {**scores.values, **scores.measures}.items()}
    cells |= {name: f"{count:,}" for name, count in scores.counts.items()}
    print_table([(name, cell) for name, cell in cells.items() if "/" not in name])
    columns = list(dict.fromkeys(name.partition("/")[0] for name in cells if "/" in name))
    kinds = dict.fromkeys(name.partition("/")[2] for name in cells if "/" in name)
    if kinds:
        typer.echo()
        rows = [(kind, *(cells.get(f"{column}/{kind}", "") for column in columns)) for kind in kinds]
        print_table(rows, ("", *columns))


def data_source(artifact: Artifact, files: list[str], format: str | None, split: str | None) -> Source:
    """Files to score on, read as the dev data of the artifact's recipe were.

    Raises:
        ArtifactError: the recipe in the artifact is not one.
    """
    from foreword.recipes.schema import DataTable

    given: dict[str, Any] = {"format": format, "dev_split": split}
    changes = {name: value for name, value in given.items() if value is not None}
    trained = artifact.manifest.recipe.get("data", {"train": (), "dev": ("",)})
    try:
        table = DataTable.model_validate(trained)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ArtifactError(f"{artifact.path}: recipe.data.{where}: {error.errors()[0]['msg']}") from error
    return table.model_copy(update={**changes, "dev": tuple(files), "holdout": None, "dev_sample": None}).source("dev")
