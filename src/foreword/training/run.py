"""One run from data to trained, scored, saveable models: of one task, or of several that share a prompt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from foreword.artifacts.format import backbone_entry, save_artifact
from foreword.artifacts.manifest import Manifest
from foreword.backbones import Backbone
from foreword.errors import BackboneError, MethodError
from foreword.methods import Method
from foreword.metrics.scores import Scores
from foreword.model import PromptedModel
from foreword.training.description import describe, recipe_of
from foreword.training.lanes import Lane
from foreword.training.loop import Outcome, Trainer
from foreword.training.mixing import Mixing
from foreword.training.prepared import Prepared
from foreword.training.processes import Processes, alone
from foreword.training.settings import TrainingSettings
from foreword.training.sharding import check_sharding
from foreword.training.tracking import Tracker, Trackers


@dataclass
class TrainedRun:
    """A finished run: the model with its best weights, and how it came to be.

    Attributes:
        test: scores of those weights on test examples, where there are some.
        processes: that trained it together, as this one sees them.
    """

    model: PromptedModel
    prepared: Prepared
    settings: TrainingSettings
    outcome: Outcome
    recipe: Mapping[str, Any] = field(default_factory=dict)
    test: Scores | None = None
    processes: Processes = field(default_factory=alone)

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
        return describe(
            self.model, self.outcome, self.settings, recipe=self.recipe, data=self.prepared.entries, test=self.test
        )

    def save(self, path: str | Path, *, replace: bool = False) -> None:
        """Write the artifact. Of several processes the main one does; the others do not wait for it.

        Raises:
            OutputError: something else is there.
        """
        if self.processes.main:
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
    processes: Processes | None = None,
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
        processes: that train it together; this one alone if None.

    Raises:
        BackboneError: its weights were tuned before.
        MethodError: neither method nor head have anything to train.
    """
    runs = train_several(
        backbone,
        method,
        {prepared.task.name: prepared},
        settings,
        tracker=tracker,
        checkpoint=checkpoint,
        resume=resume,
        recipe=recipe,
        processes=processes,
    )
    return runs[prepared.task.name]


def train_several(
    backbone: Backbone,
    method: Method,
    prepared: Mapping[str, Prepared],
    settings: TrainingSettings,
    *,
    mixing: Mixing | None = None,
    tracker: Tracker | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    recipe: Mapping[str, Any] | None = None,
    processes: Processes | None = None,
) -> dict[str, TrainedRun]:
    """Train what a method makes for several tasks at once, and a fresh head for each.

    Args:
        backbone: shared by all.
        method: how to adapt it; of several tasks, one that leaves the backbone's weights as they are.
        prepared: task name -> checked, encoded data.
        settings: how to train.
        mixing: how the tasks share the steps.
        tracker, checkpoint, resume, recipe, processes: as in `train_prepared`.

    Returns:
        Task name -> its model and scores. The models share the prompt.

    Raises:
        BackboneError: its weights were tuned before.
        MethodError: neither method nor heads have anything to train, or the method suits one task alone.
    """
    keeping = Keeping(tracker, checkpoint, resume, recipe, processes)
    begun = begin(backbone, method, prepared, settings, keeping, mixing=mixing)
    return begun.ended(begun.trainer.fit())


@dataclass(frozen=True)
class Keeping:
    """Who takes part in a run and what is kept of it, as `train_prepared` takes it."""

    tracker: Tracker | None = None
    checkpoint: Path | None = None
    resume: bool = False
    recipe: Mapping[str, Any] | None = None
    processes: Processes | None = None


@dataclass(frozen=True)
class Begun:
    """A run whose models are made, and which has not gone on from there.

    Attributes:
        trainer: that takes it to its end.
        prepared: task name -> data.
        recipe: recorded in the artifacts.
    """

    trainer: Trainer
    prepared: Mapping[str, Prepared]
    recipe: Mapping[str, Any]

    def ended(self, outcomes: Mapping[str, Outcome]) -> dict[str, TrainedRun]:
        """What came of every task, with its test data scored, given what the trainer came to."""
        trainer, runs = self.trainer, {}
        for lane, one in zip(trainer.lanes, self.prepared.values(), strict=True):
            outcome = outcomes[lane.name]
            test = None if one.test is None else trainer.score(lane, one.test, outcome.task)
            recipe = recipe_of(self.recipe, lane.name)
            runs[lane.name] = TrainedRun(lane.model, one, trainer.settings, outcome, recipe, test, trainer.processes)
        return runs


def begin(
    backbone: Backbone,
    method: Method,
    prepared: Mapping[str, Prepared],
    settings: TrainingSettings,
    keeping: Keeping,
    *,
    mixing: Mixing | None = None,
) -> Begun:
    """Make what `train_several` trains, and take it up from a checkpoint if there is one; all as described there."""
    mixing, processes = mixing or Mixing(), keeping.processes or alone()
    check_sharing(method, settings, len(prepared))
    check_sharding(method, settings, backbone, processes)
    recipe = keeping.recipe or _plain_recipe(method, prepared, settings, mixing)
    if backbone.tuned:
        raise BackboneError(f"{backbone.name}: an earlier run has tuned the weights of this backbone. Load it anew")
    digest = run_digest(recipe, prepared, backbone)
    processes.check_same(digest)
    models = processes.agreed(lambda: _models(backbone, method, prepared, settings))
    lanes = [Lane(name, models[name], one.task, one.train, one.dev) for name, one in prepared.items()]
    trainer = Trainer(
        lanes,
        settings,
        mixing=mixing,
        tracker=keeping.tracker or Trackers(),
        checkpoint=keeping.checkpoint,
        recipe=digest,
        processes=processes,
    )
    if keeping.resume:
        trainer.resume()
    return Begun(trainer, prepared, recipe)


def _plain_recipe(
    method: Method, prepared: Mapping[str, Prepared], settings: TrainingSettings, mixing: Mixing
) -> dict[str, Any]:
    """What there is to say of a run that no recipe was written for."""
    said = {"method": method, "training": settings}
    recipe: dict[str, Any] = {name: table.model_dump(mode="json") for name, table in said.items()}
    if len(prepared) > 1:
        recipe["mixing"] = mixing.model_dump(mode="json")
        recipe["tasks"] = {name: {"task": {"type": one.task.name}} for name, one in prepared.items()}
    return recipe


def check_sharing(method: Method, settings: TrainingSettings, tasks: int) -> None:
    """See that so many tasks can share what a method trains.

    Raises:
        MethodError: they cannot, or they would all begin with the head of one; or there is no task at all.
    """
    if tasks == 0:
        raise MethodError("there is no task to train for")
    if tasks == 1:
        return
    if method.tunes_backbone:
        raise MethodError(
            f"method.type: '{method.name}' trains weights of the backbone itself, and several tasks share a frozen one "
            "here. Choose another method, or train each task alone"
        )
    if settings.start_head:
        raise MethodError("training.start_head: a head is one task's, and here are several; leave it out")


def _models(
    backbone: Backbone, method: Method, prepared: Mapping[str, Prepared], settings: TrainingSettings
) -> dict[str, PromptedModel]:
    """Fresh models that share all but their heads."""
    torch.manual_seed(settings.seed)
    (name, first), *others = prepared.items()
    labels = tuple(dict.fromkeys(label for one in prepared.values() for label in one.task.labels or ()))
    head = first.task.build_head(backbone.hidden_size, backbone)
    model = PromptedModel(backbone, method, head, labels=labels)
    if first.start is not None:
        first.start.begin(model)
    models = {name: model}
    for name, one in others:
        models[name] = model.sibling(one.task.build_head(backbone.hidden_size, backbone))
    for name, model in models.items():
        if next(model.trainable(), None) is None:
            raise MethodError(
                f"nothing is there to train: method '{method.name}' trains the head alone, and the head of "
                f"'{name}' has no parameters. Choose another method, or another task.head"
            )
    return models


def run_digest(recipe: Mapping[str, Any], prepared: Mapping[str, Prepared], backbone: Backbone) -> str:
    """sha256 over all that decides a run's numbers: recipe, data and backbone."""
    data = [  # a list, since the order of tasks decides too
        (name, {side: entry.model_dump(mode="json") for side, entry in one.entries.items()})
        for name, one in prepared.items()
    ]
    text = json.dumps([recipe, data, backbone_entry(backbone)], sort_keys=True)
    return sha256(text.encode()).hexdigest()
