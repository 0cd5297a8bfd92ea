"""Four small runs of Foreword, side by side or one after another; a step is one of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import foreword as fw
from foreword.data.sources import Source
from foreword.training.prepared import prepare
from foreword.training.run import Keeping, train_prepared
from foreword.training.side_by_side import Planned, train_side_by_side
from suite.training.foreword_run import HeldBack
from suite.worker import Over, Turns

RUNS = 4


class Beside:
    """A tracker of another run, which ends with the one that is held back."""

    def __init__(self, other: HeldBack) -> None:
        self._other = other

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        del kind, step, values
        if self._other.over:
            raise Over

    def close(self) -> None:
        """Nothing is open."""


def run(job: Mapping[str, Any], turns: Turns) -> None:
    """Train until no more steps are wanted; ``job`` as in `foreword_run.run`.

    One after another, runs of one kind take the same time each, so that is one run of which so many steps make a turn.
    """
    options = job["options"]
    backbone = fw.load_backbone(job["name"], device=job["device"])
    turns.loaded(backbone.model)
    data = [{"text": text, "label": str(number % 2)} for number, text in enumerate(job["texts"])]
    method = fw.PTuningV2(**options["method"])
    settings = fw.TrainingSettings(
        batch_size=len(data),
        precision=job["precision"],
        epochs=10**6,  # of one step each; it never comes to an evaluation
        evaluate_every_steps=10**6,
        **options["training"],
    )
    prepared = prepare(fw.Classification(), Source.of(data), Source.of(data[:2]), backbone, settings)
    if not options["together"]:
        train_prepared(backbone, method, prepared, settings, tracker=HeldBack(turns, RUNS))
    held = HeldBack(turns)
    trackers = [held, *(Beside(held) for _ in range(RUNS - 1))]
    planned = [
        Planned(method, prepared, settings.model_copy(update={"seed": seed}), Keeping(tracker))
        for seed, tracker in enumerate(trackers)
    ]
    for end in train_side_by_side(backbone, planned):
        assert isinstance(end, Exception)  # they only end when they are told to
        raise end
