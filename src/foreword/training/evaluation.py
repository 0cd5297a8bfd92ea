"""Where the tasks of a run stand on dev: scores of each, and the one value that weights are selected by."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from foreword.inference.encoding import EncodedSet
from foreword.inference.forward import predict_encoded
from foreword.metrics.scores import Scores
from foreword.tasks import Task, WritingTask
from foreword.training.lanes import Lane
from foreword.training.processes import Processes


class Evaluation(NamedTuple):
    """One task on dev.

    Attributes:
        task: with what it chose there (`Task.settle`).
        scores: of that.
        predictions: of every dev example, in order.
    """

    task: Task[Any, Any]
    scores: Scores
    predictions: list[Any]


def evaluate(lane: Lane, processes: Processes, *, bf16: bool, selecting: bool = False) -> Evaluation:
    """Score a model as it is on dev, with what its task chooses there.

    Args:
        lane: whose model and dev examples.
        processes: that share the examples; each is given all predictions.
        bf16: whether to compute in bfloat16.
        selecting: whether only what weights are selected by is wanted.
    """
    predictions = _predictions(lane, lane.dev, processes, bf16=bf16, selecting=selecting)
    task = lane.task.settle(lane.dev.examples, predictions)
    return Evaluation(task, task.score(lane.dev.examples, predictions), predictions)


def score(lane: Lane, encoded: EncodedSet, task: Task[Any, Any], processes: Processes, *, bf16: bool) -> Scores:
    """Score a model as it is on other examples, with what ``task`` has chosen on dev."""
    return task.score(encoded.examples, _predictions(lane, encoded, processes, bf16=bf16))


def _predictions(
    lane: Lane, encoded: EncodedSet, processes: Processes, *, bf16: bool, selecting: bool = False
) -> list[Any]:
    """One prediction per example, each made by one process.

    Where layers are shared out, all processes take as many passes; how many words a text will have none of them knows,
    so all write all texts.
    """
    predict = partial(predict_encoded, lane.model, lane.task, bf16=bf16, selecting=selecting)
    if processes.count == 1 or (processes.sharding and isinstance(lane.task, WritingTask)):
        return predict(encoded)
    own = processes.share(range(len(encoded.examples)))
    passes = processes.most if processes.sharding else None
    found = predict(encoded.only(own or range(1)), passes=passes)  # left without any, it keeps step with the others
    return processes.gathered(found[: len(own)])


def dev_values(found: Mapping[str, Evaluation]) -> dict[str, Any]:
    """The scores of one evaluation as they are logged, 'main' naming the one to select by.

    Of several tasks each value has its task's name in front, and the one to select by is the mean of the main ones.
    """
    if len(found) == 1:
        (scores,) = (one.scores for one in found.values())
        return {**scores.values, "main": scores.main}
    values = {f"{name}/{key}": value for name, one in found.items() for key, value in one.scores.values.items()}
    mains = {name: one.scores.main_value for name, one in found.items()}
    return {**values, "mean": fmean(mains.values()), "main": "mean", "tasks": mains}
