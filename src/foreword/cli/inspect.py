"""`foreword inspect`: what an artifact is and what it fits."""

# ruff: noqa: PLC0415  torch is imported when it is needed, so that `--help` is fast

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foreword.cli.loading import ArtifactPath
from foreword.cli.printing import examples, print_table, score_rows, share_words
from foreword.studies.wording import size

if TYPE_CHECKING:
    from foreword.artifacts.format import Artifact
    from foreword.artifacts.manifest import Manifest
    from foreword.injection import Prompt

EXAMPLES = examples("foreword inspect runs/tickets", "foreword inspect runs/tickets --json")


def inspect(
    artifact: ArtifactPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest.")] = False,
) -> None:
    """Say what an artifact is, what it fits, and how it was made.

    Its files are checked against their hashes on the way. The backbone is not loaded.
    """
    from foreword.artifacts.format import load_artifact

    found = load_artifact(artifact)
    if as_json:
        typer.echo(json.dumps(found.manifest.model_dump(mode="json"), indent=2, ensure_ascii=False))
        return
    print_sections(found)


def print_sections(artifact: Artifact) -> None:
    """All that is worth knowing of an artifact, a table per subject."""
    for title, rows in _sections(artifact).items():
        if not rows:
            continue
        typer.echo(f"{title}")
        print_table([(f"  {name}", value) for name, value in rows])
        typer.echo()


def _sections(artifact: Artifact) -> dict[str, list[tuple[str, str]]]:
    from foreword.artifacts.card import listed

    manifest = artifact.manifest
    return {
        str(artifact.path): [
            ("task", _component(manifest, "task")),
            ("method", _component(manifest, "method")),
            ("labels", listed(artifact.task.labels or ()) or "none"),
            ("made", manifest.created),
        ],
        "Fits": _fits(artifact),
        "Scores on the dev data": score_rows({**manifest.metrics.values, **manifest.metrics.measures}),
        "Size": [
            ("trained parameters", share_words(manifest.parameters.trained, manifest.parameters.backbone)),
            *((name, size(entry.bytes)) for name, entry in manifest.files.items()),
        ],
        "Data": [row for side, entry in manifest.data.items() for row in _data_rows(side, entry.model_dump())],
        "Imported": [(name, str(value)) for name, value in (manifest.imported or {}).items() if name != "files"],
        "Training": [] if manifest.imported else _training_rows(manifest),
    }


def _component(manifest: Manifest, part: str) -> str:
    """Name of a task or method and its plain settings."""
    component = getattr(manifest, part)
    plain = {name: value for name, value in component.settings.items() if isinstance(value, bool | int | float | str)}
    told = ", ".join(f"{name} = {value}" for name, value in plain.items())
    return f"{component.type} ({told})" if told else str(component.type)


def _fits(artifact: Artifact) -> list[tuple[str, str]]:
    backbone = artifact.manifest.backbone
    columns = getattr(artifact.task, "columns", None)
    named = [value for value in columns.model_dump().values() if value] if columns else []
    reads = ", ".join(value if isinstance(value, str) else ", ".join(value) for value in named)
    return [
        ("backbone", backbone.name if backbone.revision is None else f"{backbone.name} at {backbone.revision}"),
        ("family", f"{backbone.family}, {backbone.dtype}"),
        ("weights", f"sha256 {backbone.weights}"),
        ("tokenizer", f"sha256 {backbone.tokenizer}"),
        ("prompt", _prompt_words(artifact)),
        ("fields", reads),
    ]


def _prompt_words(artifact: Artifact) -> str:
    from foreword.injection import Mixture

    found = artifact.prompt
    if isinstance(found, Mixture):
        weights = ", ".join(f"{weight:.3f}" for weight in found.log_weights.exp().tolist())
        return f"a mixture of {len(found.prompts)} with weights {weights}; each: {_one_prompt_words(found.prompts[0])}"
    return "none" if found is None else _one_prompt_words(found)


def _one_prompt_words(prompt: Prompt) -> str:
    parts = []
    if prompt.prefix:
        parts.append(f"{prompt.length} positions each at {', '.join(map(str, prompt.prefix))}")
    if prompt.inputs is not None:
        parts.append(f"{len(prompt.inputs.anchors)} vectors among the input embeddings")
    if prompt.modulations:
        parts.append(f"scale and shift of what layers {', '.join(map(str, prompt.modulations))} are given")
    return "; ".join(parts) or "none"


def _data_rows(side: str, entry: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(side, f"{entry['examples']:,} examples in {entry['rows']:,} rows from {', '.join(entry['files'])}")]
    return [*rows, *((side, f"{count:,} examples {note}") for note, count in entry["notes"].items())]


def _training_rows(manifest: Manifest) -> list[tuple[str, str]]:
    training = manifest.training
    return [
        ("steps", f"{training.steps:,}, the best after {training.best_step:,}"),
        ("seconds", f"{training.seconds:.1f}"),
        ("seed", str(training.seed)),
        *([("together with", ", ".join(others))] if (others := manifest.recipe.get("together")) else []),
        *_settings_rows(manifest),
    ]


def _settings_rows(manifest: Manifest) -> list[tuple[str, str]]:
    """The settings of the recipe that matter most."""
    settings = manifest.recipe.get("training", {})
    size = "batch_size" if settings.get("batch_tokens") is None else "batch_tokens"
    names = ("epochs", size, "learning_rate", "head_learning_rate", "precision")
    return [(name, str(settings[name])) for name in names if settings.get(name) is not None]
