"""Runs side by side: several prompts trained in one process, over one pass of the backbone per step.

Seeds, lengths, rates, layers, methods and tasks may differ. Each run is what it is alone, but for rounding, and but for
dropout inside the backbone, where it is drawn for all rows at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from foreword.backbones import Backbone
from foreword.errors import MethodError
from foreword.methods import Method
from foreword.tasks import Task, WritingTask
from foreword.training.lockstep import Draws, Run, fit_in_lockstep
from foreword.training.loop import Interrupted
from foreword.training.prepared import Prepared
from foreword.training.processes import launched
from foreword.training.run import Begun, Keeping, TrainedRun, begin, train_prepared
from foreword.training.settings import TrainingSettings

SHARED = ("precision", "backbone_dropout", "attention_dropout", "gradient_checkpointing")
"""Training settings that are about the pass of the backbone, which is one for all."""


@dataclass(frozen=True)
class Planned:
    """One run of several; all as `train_prepared` takes it.

    Attributes:
        method, prepared, settings: what to train, on what, and how.
        keeping: who listens, and what is kept. Its tracker may end this run by raising an exception.
    """

    method: Method
    prepared: Prepared
    settings: TrainingSettings
    keeping: Keeping = field(default_factory=Keeping)


def train_side_by_side(backbone: Backbone, planned: Sequence[Planned]) -> list[TrainedRun | Exception]:
    """Train several runs at once, each as `train_prepared` would train it alone.

    A run that is over drops out and the others go on; so does one that is ended by an error of its own, such as a loss
    that is no number any more, or by its tracker. Seconds of a run, in its log and its artifact, are the clock's.

    Args:
        backbone: shared by all, and left as it is. A single run may be of a method that does not leave it so.
        planned: the runs.

    Returns:
        Per run, in order, what it came to, or the exception that ended it or that it could not begin for.

    Raises:
        MethodError: they cannot go side by side; nothing was trained.
        Interrupted: by Ctrl-C, after the state of all was saved.
    """
    if len(planned) == 1:
        return [_alone(backbone, planned[0])]
    check_side_by_side(planned)
    begun: list[tuple[Begun, Run] | Exception] = []
    for one in planned:
        try:
            begun.append(_begun(backbone, one))
        except Exception as error:
            begun.append(error)
    fit_in_lockstep([one[1] for one in begun if not isinstance(one, Exception)])
    return [one if isinstance(one, Exception) else _ended(*one) for one in begun]


def _alone(backbone: Backbone, planned: Planned) -> TrainedRun | Exception:
    """A run without another beside it."""
    try:
        return train_prepared(backbone, planned.method, planned.prepared, planned.settings, **vars(planned.keeping))
    except Interrupted:
        raise
    except Exception as error:
        return error


def _begun(backbone: Backbone, planned: Planned) -> tuple[Begun, Run]:
    """A run before its first step."""
    draws, data = Draws(), {planned.prepared.task.name: planned.prepared}
    with draws():
        begun = begin(backbone, planned.method, data, planned.settings, planned.keeping)
    return begun, Run(begun.trainer, draws)


def _ended(begun: Begun, run: Run) -> TrainedRun | Exception:
    """What a run came to."""
    assert run.end is not None
    if isinstance(run.end, Interrupted):
        raise run.end
    if isinstance(run.end, Exception):
        return run.end
    (trained,) = begun.ended(run.end).values()
    return trained


def check_side_by_side(planned: Sequence[Planned]) -> None:
    """See that runs can go side by side.

    Raises:
        MethodError: they cannot, and why.
    """
    if launched().count > 1:
        raise MethodError("runs side by side share one process, and here are several. Train them in one")
    for one in planned:
        refusal = why_alone(one.method, one.prepared.task)
        if refusal is not None:
            raise MethodError(f"{refusal}. Train it alone")
    for name in SHARED:
        found = sorted({str(getattr(one.settings, name)) for one in planned})
        if len(found) > 1:
            raise MethodError(
                f"training.{name}: runs side by side share one pass of the backbone, and here are {', '.join(found)}. "
                "Give all of them the same, or train those with the same together"
            )


def why_alone(method: Method, task: Task[Any, Any]) -> str | None:
    """Why a run cannot share a pass of the backbone with others, in words; None if it can."""
    if method.tunes_backbone or method.attaches:
        does = "trains weights of the backbone itself" if method.tunes_backbone else "puts modules into the backbone"
        return (
            f"method.type: '{method.name}' {does}, and runs side by side share one that stays as it is, each row "
            "reading its own prompt"
        )
    if isinstance(task, WritingTask):
        return f"task.type: answers of '{task.name}' are written, and runs side by side share passes over given texts"
    return None


def pass_of(settings: TrainingSettings) -> tuple[object, ...]:
    """What is equal in runs that can share a pass."""
    return tuple(getattr(settings, name) for name in SHARED)
