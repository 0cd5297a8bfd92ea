"""Foreword's contenders: the library's own training run, held back between its steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import foreword as fw
from suite.worker import Over, Turns


class HeldBack:
    """A tracker that lets the run go on when it is its turn.

    Args:
        turns: which say when.
        every: steps that are taken in a turn.

    Attributes:
        over: whether no more turns are wanted.
    """

    def __init__(self, turns: Turns, every: int = 1) -> None:
        self._turns, self._every, self.over = turns, every, False

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        del values
        if kind in ("start", "step") and step % self._every == 0:
            try:
                self._turns.next()
            except Over:
                self.over = True
                raise

    def close(self) -> None:
        """Nothing is open."""


def run(job: Mapping[str, Any], turns: Turns) -> None:
    """Train on one batch, over and over, until no more steps are wanted.

    Args:
        job: ``texts`` of the batch, ``name`` of the model, ``precision``, ``device``, and of the contender ``options``.
        turns: asked before every step.
    """
    options = job["options"]
    train, method, task = fw.train, fw.PTuningV2(**options["method"]), fw.Classification()  # imported before all counts
    backbone = fw.load_backbone(job["name"], device=job["device"])
    turns.loaded(backbone.model)
    data = [{"text": text, "label": str(number % 2)} for number, text in enumerate(job["texts"])]
    train(
        backbone,
        method,
        task,
        train=data,
        dev=data[:2],
        progress=False,
        tracker=HeldBack(turns),
        batch_size=len(data),
        precision=job["precision"],
        epochs=10**6,  # of one step each; it never comes to an evaluation
        evaluate_every_steps=10**6,
        **options["training"],
    )
