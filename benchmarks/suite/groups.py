"""Every group of the suite: how it is measured, and what it must reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from suite.options import Options
from suite.serving_batch.measure import SETTINGS, serving_batch
from suite.startup import startup
from suite.targets import Target
from suite.training.measure import memory, side_by_side, training
from suite.trials.measure import trials

Settings = dict[str, dict[str, Any]]
FINE_TUNING, PEFT, FULL = "fine-tuning, no dropout", "PEFT prefix p=20", "Foreword p=20"
LONG_PEFT, LONG, TOP = "PEFT prefix p=100, MLP", "Foreword p=100, MLP", "Foreword p=20, top third, cached"
SHORT_ROWS, LONG_ROWS = "32x64", "16x256"


@dataclass(frozen=True, slots=True)
class Group:
    """Contenders measured in one or several settings.

    Attributes:
        measure: what it is to do; its docstring tells what is measured.
        targets: what it must reach.
    """

    measure: Callable[[Options], Settings]
    targets: tuple[Target, ...] = ()


GROUPS: Mapping[str, Group] = {
    "training": Group(
        training,
        (
            *(Target(FULL, FINE_TUNING, f"{rows} float32", "at least", 1.40) for rows in (SHORT_ROWS, LONG_ROWS)),
            Target(FULL, PEFT, f"{SHORT_ROWS} float32", "at least", 1.2),
            Target(FULL, PEFT, f"{LONG_ROWS} float32", "at least", 2.0),
            Target(FULL, PEFT, f"{LONG_ROWS} bf16", "at least", 3.0),
            Target(LONG, LONG_PEFT, f"{SHORT_ROWS} float32", "at least", 1.7),
            Target(LONG, LONG_PEFT, f"{LONG_ROWS} float32", "at least", 2.1),
            Target(LONG, LONG_PEFT, f"{LONG_ROWS} bf16", "at least", 3.5),
            *(
                Target(TOP, FULL, f"{rows} {precision}", "at least", 2.7)
                for rows, precision in product((SHORT_ROWS, LONG_ROWS), ("float32", "bf16"))
            ),
            Target(TOP, PEFT, f"{LONG_ROWS} bf16", "at least", 10),
        ),
    ),
    "memory": Group(
        memory,
        (
            Target(FULL, PEFT, f"{LONG_ROWS} float32", "at most", 0.42),
            Target(FULL, PEFT, f"{LONG_ROWS} bf16", "at most", 0.31),
            Target(TOP, "fine-tuning", f"{LONG_ROWS} bf16", "at most", 0.09),
        ),
    ),
    "side-by-side": Group(side_by_side),
    "serving-batch": Group(
        serving_batch,
        tuple(
            Target("Foreword, layers and prompts", "bare model", str(setting), "at most", value)
            for setting, value in zip(SETTINGS, (1.08, 1.15, None, 1.18), strict=True)
            if value is not None
        ),
    ),
    "startup": Group(
        startup,
        (
            Target("foreword --help", None, "seconds", "at most", 0.3),
            Target("foreword --help", None, "imports", "at most", 0),
            Target("Foreword, predict one line", "transformers, one forward", "seconds", "at most", 1.5),
        ),
    ),
    "trials": Group(trials),
}
