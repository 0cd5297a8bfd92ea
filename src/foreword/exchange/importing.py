"""From a foreign checkpoint to an artifact."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foreword.artifacts.format import backbone_entry, save_artifact
from foreword.artifacts.manifest import (
    FORMAT_VERSION,
    BackboneEntry,
    Component,
    Manifest,
    MetricsEntry,
    ParametersEntry,
    TrainingEntry,
    library_versions,
)
from foreword.backbones import Backbone
from foreword.errors import ArtifactError, OutputError, RecipeError
from foreword.exchange.foreign import Foreign
from foreword.exchange.google import read_google
from foreword.exchange.heads import named_task, place_head
from foreword.exchange.peft import read_peft
from foreword.exchange.prefix_tuning import read_prefix_tuning
from foreword.exchange.ptuning_v2 import read_ptuning_v2
from foreword.exchange.reading import file_hash
from foreword.heads import Head
from foreword.model import PromptedModel
from foreword.tasks import Task

Reader = Callable[[Path, Backbone, Task[Any, Any]], Foreign]

IMPORTS: dict[str, Reader] = {
    "peft": read_peft,
    "ptuning-v2": read_ptuning_v2,
    "prefix-tuning": read_prefix_tuning,
    "google": read_google,
}
"""Formats that can be read: HF PEFT's, and those of the authors' own code."""


def import_prompt(
    form: str,
    source: Path,
    backbone: Backbone,
    task: Task[Any, Any],
    output: Path,
    *,
    outputs: Sequence[str] = (),
    prompt_only: bool = False,
) -> list[str]:
    """Read a foreign checkpoint and write it as an artifact.

    Args:
        form: a key of `IMPORTS`.
        source: file or folder.
        backbone: the one it was trained on; only its sizes can be checked where the checkpoint does not hold it.
        task: what the artifact is for.
        output: folder of the artifact.
        outputs: names of the head's outputs, in their order: labels, or for entities their tags.
        prompt_only: leave a head out. Such an artifact predicts nothing; training can start from it.

    Returns:
        What the user should know.

    Raises:
        ArtifactError: the checkpoint cannot be read, does not fit, or cannot be said here.
        RecipeError: the task does not go with its head.
        OutputError: something is at ``output``.
    """
    if form not in IMPORTS:
        raise RecipeError(f"no format '{form}' to import; there are: {', '.join(IMPORTS)}")
    if output.exists():
        raise OutputError(f"{output}: exists already. Choose another --output")
    foreign = IMPORTS[form](source, backbone, task)
    task = named_task(task, outputs)
    task, head = (task, Head()) if prompt_only else _head(foreign, task, outputs, backbone, source)
    model = PromptedModel(backbone, foreign.method, head, foreign.encoder)
    save_artifact(output, model, _manifest(form, source, foreign, task, model))
    return list(foreign.warnings)


def _head(
    foreign: Foreign, task: Task[Any, Any], outputs: Sequence[str], backbone: Backbone, source: Path
) -> tuple[Task[Any, Any], Head]:
    """The task's head: the checkpoint's, or one with nothing in it to be trained."""
    if not isinstance(foreign.head, str):
        return place_head(foreign.head, task, outputs, backbone)
    head = task.build_head(backbone.hidden_size, backbone)
    if head.state_dict():
        raise ArtifactError(
            f"{source}: brings no head for the task '{task.name}': {foreign.head}. Take the prompt without one, to "
            "start training from (--prompt-only)"
        )
    return task, head


def _manifest(form: str, source: Path, foreign: Foreign, task: Task[Any, Any], model: PromptedModel) -> Manifest:
    """All that is known of an imported prompt. Nothing is known of its training, and nothing was measured."""
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}
    files = {path.name: file_hash(path) for path in foreign.files}
    head = "of the task" if type(model.head) is not Head else "left out"
    return Manifest(
        format_version=FORMAT_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        backbone=BackboneEntry(**backbone_entry(model.backbone)),
        task=Component(type=task.name, settings=task.model_dump(mode="json")),
        method=Component(type=foreign.method.name, settings=foreign.method.model_dump(mode="json")),
        recipe={"imported": {"format": form, "source": source.name, "head": head, "files": files, **foreign.about}},
        max_length=None,
        data={},
        metrics=MetricsEntry(main="", values={}, counts={}),
        parameters=ParametersEntry(
            prompt=parts["prompt"],
            head=parts["head"],
            backbone_trained=0,
            backbone=model.backbone.parameter_count,
        ),
        training=TrainingEntry(seed=0, steps=0, best_step=0, seconds=0.0, padding=0.0, evaluations=[]),
        versions=library_versions(),
        files={},
    )
