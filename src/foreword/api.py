"""The verbs of the Python API. Each is a few lines over the rooms below; nothing else lives here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from foreword.backbones import Backbone
from foreword.data.sources import Source
from foreword.errors import ForewordError
from foreword.methods import Method
from foreword.tasks import Task
from foreword.training.mixing import Mixing
from foreword.training.prepared import Prepared, prepare
from foreword.training.processes import Processes, launched
from foreword.training.progress import progress_tracker
from foreword.training.run import Keeping, TrainedRun, check_sharing, train_prepared, train_several
from foreword.training.settings import TrainingSettings
from foreword.training.side_by_side import Planned, train_side_by_side
from foreword.training.tracking import Tracker, Trackers

Data = Source | str | Path | Iterable[Mapping[str, Any]]


def train(
    backbone: Backbone,
    method: Method,
    task: Task[Any, Any],
    *,
    train: Data,
    dev: Data,
    progress: bool = True,
    tracker: Tracker | None = None,
    **training: Any,
) -> TrainedRun:
    """Train a prompt and a head for one task; the best weights seen on dev are kept.

    In a program that `accelerate launch` starts several times, the processes train it together.

    Args:
        backbone: from `load_backbone`; left as it is by every method but fine-tuning.
        method: such as ``PTuningV2(prompt_length=20)``.
        task: such as ``Classification()``.
        train, dev: a file of any format that `foreword train` reads, or dictionaries.
        progress: show a live bar on a terminal, and plain lines elsewhere, on stderr.
        tracker: told about every event as well.
        **training: fields of `TrainingSettings`, such as ``epochs=10`` or ``start_from="runs/other"``.

    Raises:
        DataError, MethodError, pydantic.ValidationError: saying what is wrong, and where.
    """
    settings, processes = _settings(training), launched()
    sources, reserved = (Source.of(train), Source.of(dev)), method.positions_taken
    prepared = processes.agreed(lambda: prepare(task, *sources, backbone, settings, reserved=reserved))
    with _listening(progress, tracker, processes) as everyone:
        return train_prepared(backbone, method, prepared, settings, tracker=everyone, processes=processes)


def train_seeds(
    backbone: Backbone,
    method: Method,
    task: Task[Any, Any],
    seeds: Sequence[int],
    *,
    train: Data,
    dev: Data,
    progress: bool = True,
    **training: Any,
) -> list[TrainedRun]:
    """Train one prompt and head per seed, side by side: members of an ensemble, or runs to tell chance from effect.

    Each is what `train` makes with its seed, but for rounding; `foreword.training.side_by_side` says more, and trains
    runs that differ in other things.

    Args:
        backbone, method, task, train, dev: as in `train`; a method that leaves the backbone's weights as they are.
        seeds: of the runs.
        progress: show lines on stderr, each with the seed in front.
        **training: as in `train`.

    Returns:
        The runs in order.

    Raises:
        DataError, MethodError, pydantic.ValidationError: saying what is wrong, and where.
        ForewordError: what ended one of the runs; the others were trained to their ends first.
    """
    settings = [_settings({**training, "seed": seed}) for seed in seeds]
    if not settings:
        raise ForewordError("there is no seed to train with")
    sides = Source.of(train), Source.of(dev)
    prepared = prepare(task, *sides, backbone, settings[0], reserved=method.positions_taken)
    with ExitStack() as shown:
        keeping = [Keeping(shown.enter_context(closing(_shown(progress, f"seed {seed}")))) for seed in seeds]
        planned = [Planned(method, prepared, *one) for one in zip(settings, keeping, strict=True)]
        ends = train_side_by_side(backbone, planned)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return [end for end in ends if isinstance(end, TrainedRun)]


def train_together(
    backbone: Backbone,
    method: Method,
    tasks: Mapping[str, tuple[Task[Any, Any], Data, Data]],
    *,
    mixing: Mixing | None = None,
    progress: bool = True,
    tracker: Tracker | None = None,
    **training: Any,
) -> dict[str, TrainedRun]:
    """Train one prompt for several tasks, and a head for each; the weights of the best mean dev score are kept.

    Args:
        backbone, method: as in `train`; a method that leaves the backbone's weights as they are.
        tasks: name -> task, training data and dev data.
        mixing: how the tasks share the steps, such as ``Mixing(temperature=2)``; by the size of their data if None.
        progress, tracker, **training: as in `train`.

    Returns:
        Name -> its model and scores. Save each, and start a run of its own from there (``start_from``,
        ``start_head``) to tune a task alone.

    Raises:
        DataError, MethodError, pydantic.ValidationError: saying what is wrong, and where.
    """
    settings, processes = _settings(training), launched()
    check_sharing(method, settings, len(tasks))

    def ready() -> dict[str, Prepared]:
        return {
            name: prepare(task, Source.of(train), Source.of(dev), backbone, settings, reserved=method.positions_taken)
            for name, (task, train, dev) in tasks.items()
        }

    prepared = processes.agreed(ready)
    with _listening(progress, tracker, processes) as everyone:
        return train_several(backbone, method, prepared, settings, mixing=mixing, tracker=everyone, processes=processes)


def _settings(training: Mapping[str, Any]) -> TrainingSettings:
    settings = TrainingSettings(**training)
    if settings.tensorboard:
        raise ForewordError("there is no run folder here to log to: pass tracker=TensorBoardTracker(folder) instead")
    return settings


def _shown(progress: bool, title: str) -> Trackers:
    return Trackers(*([progress_tracker(title, beside=True)] if progress else []))


def _listening(progress: bool, tracker: Tracker | None, processes: Processes) -> closing[Trackers]:
    """Who is told about a run: of several processes, those of the main one."""
    if not processes.main:
        return closing(Trackers())
    return closing(Trackers(*([progress_tracker()] if progress else []), *([tracker] if tracker else [])))
