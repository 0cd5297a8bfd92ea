"""One run from data to a trained, scored, saveable model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from foreword.artifacts.format import backbone_entry, save_artifact
from foreword.artifacts.manifest import (
    FORMAT_VERSION,
    BackboneEntry,
    Component,
    DataEntry,
    Manifest,
    MetricsEntry,
    ParametersEntry,
    TrainingEntry,
    library_versions,
)
from foreword.backbones import Backbone
from foreword.data.sources import Source
from foreword.errors import BackboneError, DataError, MethodError
from foreword.inference.encoding import EncodedSet, encode_examples
from foreword.injection import Prompt
from foreword.methods import Method
from foreword.metrics.scores import Scores
from foreword.model import PromptedModel
from foreword.tasks import Task
from foreword.training.loop import Outcome, Trainer
from foreword.training.settings import TrainingSettings
from foreword.training.tracking import Tracker, Trackers
from foreword.training.transfer import prompt_to_start_from, start


@dataclass(frozen=True)
class Prepared:
    """Checked, encoded data for one run.

    Attributes:
        task: with its labels.
        train, dev: encoded examples.
        test: examples to score once in the end, None where there are none.
        entries: what the artifact will say of the data.
        start: the prompt to begin with, None for a fresh one.
    """

    task: Task[Any, Any]
    train: EncodedSet
    dev: EncodedSet
    entries: Mapping[str, DataEntry]
    start: Prompt | None = None
    test: EncodedSet | None = None

    @property
    def warnings(self) -> list[str]:
        """What had to be done to make examples fit, in words."""
        return [
            f"{side}: {count} of {entry.examples} examples {note}"
            for side, entry in self.entries.items()
            for note, count in entry.notes.items()
        ]


def prepare(
    task: Task[Any, Any],
    train: Source,
    dev: Source,
    backbone: Backbone,
    settings: TrainingSettings,
    *,
    reserved: int = 0,
    test: Source | None = None,
) -> Prepared:
    """Read, check and encode all sides of the data.

    Args:
        task: what the data is for.
        train, dev: where it comes from.
        backbone: whose tokenizer is used.
        settings: of which the length limit counts, and the artifact to start from.
        reserved: positions of a row that the prompt takes (`Method.positions_taken`).
        test: what to score once in the end.

    Raises:
        DataError: naming file, line and field.
        ArtifactError: what to start from cannot be read, or is of another backbone.
    """
    start_from = None if settings.start_from is None else prompt_to_start_from(settings.start_from, backbone)
    train_examples = task.read(train.records(), labelled=True)
    task = task.with_labels_from(train_examples).with_vocabulary(backbone)
    sources = {"train": train, "dev": dev} | ({} if test is None else {"test": test})
    examples = {side: train_examples if side == "train" else _checked(task, sources[side]) for side in sources}
    for side, found in examples.items():
        if not found:
            raise DataError(f"no {side} examples", file=_names(sources[side]))
    task.build_head(backbone.hidden_size, backbone)  # one that does not fit is told of before all texts are read
    encoded = {
        side: encode_examples(task, found, backbone, settings.max_length, reserved=reserved)
        for side, found in examples.items()
    }
    for side, one in encoded.items():
        if not one.rows:
            notes = ", ".join(one.notes)
            raise DataError(
                f"no {side} examples are left: all {len(one.examples)} are {notes}", file=_names(sources[side])
            )
    entries = {
        side: DataEntry(
            files=sources[side].digests(), examples=len(one.examples), rows=len(one.rows), notes=dict(one.notes)
        )
        for side, one in encoded.items()
    }
    return Prepared(task, encoded["train"], encoded["dev"], entries, start_from, encoded.get("test"))


def _names(source: Source) -> str | None:
    return ", ".join(source.files) or None


def _checked(task: Task[Any, Any], source: Source) -> list[Any]:
    """Labelled examples whose labels the task knows."""
    records = list(source.records())
    examples = task.read(records, labelled=True)
    task.check_labels(records, examples)
    return examples


@dataclass
class TrainedRun:
    """A finished run: the model with its best weights, and how it came to be.

    Attributes:
        test: scores of those weights on test examples, where there are some.
    """

    model: PromptedModel
    prepared: Prepared
    settings: TrainingSettings
    outcome: Outcome
    recipe: Mapping[str, Any] = field(default_factory=dict)
    test: Scores | None = None

    @property
    def warnings(self) -> list[str]:
        """What the user should know: fitted examples, and answers that never vary."""
        return [*self.prepared.warnings, *self._constant()]

    def _constant(self) -> list[str]:
        task, predictions = self.outcome.task, self.outcome.predictions
        answers = Counter(task.answer_key(prediction) for prediction in predictions)
        if len(predictions) < 2 or len(answers) > 1:
            return []
        (answer,) = answers
        return [
            f"the model gives the same answer ('{answer}') to all {len(predictions)} dev examples: it has learned "
            "nothing yet. Try a higher training.learning_rate (3e-2 for direct prompts), more training.epochs, a "
            "longer method.prompt_length, or task.pooling = 'first'"
        ]

    def manifest(self) -> Manifest:
        """Everything the artifact says of itself, but its files."""
        model, outcome = self.model, self.outcome
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items()}
        return Manifest(
            format_version=FORMAT_VERSION,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            backbone=BackboneEntry(**backbone_entry(model.backbone)),
            task=_component(outcome.task),
            method=_component(model.method),
            recipe=_without_folders(self.recipe),
            max_length=self.settings.max_length,
            data=dict(self.prepared.entries),
            metrics=MetricsEntry(**outcome.scores.to_json()),
            test=None if self.test is None else MetricsEntry(**self.test.to_json()),
            parameters=ParametersEntry(
                prompt=counts.get("prompt", 0),
                attachment=counts.get("attachment", 0),
                head=counts["head"],
                backbone_trained=sum(p.numel() for p in model.tuned_weights().values()),
                backbone=model.backbone.parameter_count,
            ),
            training=TrainingEntry(
                seed=self.settings.seed,
                steps=outcome.progress.step,
                best_step=outcome.progress.best_step,
                seconds=round(outcome.progress.seconds, 3),
                padding=round(outcome.padding, 4),
                evaluations=outcome.progress.evaluations,
            ),
            versions=library_versions(),
            files={},
        )

    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write the artifact.

        Raises:
            OutputError: something else is there.
        """
        save_artifact(Path(path), self.model, self.manifest(), replace=replace)


def train_prepared(
    backbone: Backbone,
    method: Method,
    prepared: Prepared,
    settings: TrainingSettings,
    *,
    tracker: Tracker | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    recipe: Mapping[str, Any] | None = None,
) -> TrainedRun:
    """Train a fresh prompt and head on prepared data.

    Args:
        backbone: trained in place by methods that tune it.
        method: how to adapt it.
        prepared: checked, encoded data.
        settings: how to train.
        tracker: told about every event.
        checkpoint: file to keep the run's state in.
        resume: take the run up from that file.
        recipe: recorded in the artifact.

    Raises:
        BackboneError: its weights were tuned before.
        MethodError: neither method nor head have anything to train.
    """
    recipe = recipe or {
        "method": method.model_dump(mode="json"),
        "training": settings.model_dump(mode="json"),
    }
    if backbone.tuned:
        raise BackboneError(f"{backbone.name}: an earlier run has tuned the weights of this backbone. Load it anew")
    torch.manual_seed(settings.seed)
    head = prepared.task.build_head(backbone.hidden_size, backbone)
    model = PromptedModel(backbone, method, head, labels=prepared.task.labels or ())
    if next(model.trainable(), None) is None:
        raise MethodError(
            f"nothing is there to train: method '{method.name}' trains the head alone, and the head of this task "
            "has no parameters. Choose another method, or another task.head"
        )
    if prepared.start is not None:
        start(method, model.prompt, prepared.start)
    trainer = Trainer(
        model,
        prepared.task,
        settings,
        train=prepared.train,
        dev=prepared.dev,
        tracker=tracker or Trackers(),
        checkpoint=checkpoint,
        recipe=run_digest(recipe, prepared, backbone),
    )
    if resume:
        trainer.resume()
    outcome = trainer.fit()
    test = None if prepared.test is None else trainer.score(prepared.test, outcome.task)
    return TrainedRun(model, prepared, settings, outcome, recipe, test)


def run_digest(recipe: Mapping[str, Any], prepared: Prepared, backbone: Backbone) -> str:
    """sha256 over all that decides a run's numbers: recipe, data and backbone."""
    data = {side: entry.model_dump(mode="json") for side, entry in prepared.entries.items()}
    text = json.dumps([recipe, data, backbone_entry(backbone)], sort_keys=True)
    return sha256(text.encode()).hexdigest()


def _component(settings: Task[Any, Any] | Method) -> Component:
    return Component(type=settings.name, settings=settings.model_dump(mode="json"))


def _without_folders(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe with its files by name alone: where they lay is nobody's business in a published artifact."""
    plain, data = dict(recipe), recipe.get("data", {})
    names = {side: [Path(file).name for file in data[side]] for side in ("train", "dev", "test") if side in data}
    if names:
        plain["data"] = {**data, **names}
    for section, key in (("training", "start_from"), ("task", "vocabulary")):
        table = recipe.get(section, {})
        if table.get(key) is not None:
            plain[section] = {**table, key: Path(table[key]).name}
    return plain
