"""What every metric returns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scores:
    """Measured values of one evaluation.

    Attributes:
        values: name -> fraction in [0, 1], or correlation in [-1, 1]; never a percentage.
        counts: name -> how many items the values were counted on.
        main: name, in ``values``, of the one to select models by; higher is better.
        measures: name -> finite number on a scale of its own, such as NIST or a squared error.

    Raises:
        ValueError: ``main`` is not in ``values``, a value is not in [-1, 1], or a measure is not finite.
    """

    values: Mapping[str, float]
    counts: Mapping[str, int]
    main: str
    measures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.main not in self.values:
            raise ValueError(f"main value '{self.main}' is not among: {', '.join(self.values)}")
        for name, value in self.values.items():
            if not -1.0 <= value <= 1.0:
                raise ValueError(f"'{name}' is {value}, neither a fraction in [0, 1] nor a correlation in [-1, 1]")
        for name, number in self.measures.items():
            if not math.isfinite(number):
                raise ValueError(f"'{name}' is {number}, not a finite number")

    @property
    def main_value(self) -> float:
        """The value to select models by, a fraction in [0, 1]."""
        return self.values[self.main]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain objects that ``json.dumps`` accepts."""
        return {
            "main": self.main,
            "values": dict(self.values),
            "counts": dict(self.counts),
            "measures": dict(self.measures),
        }


def check_items(gold: Sized, predicted: Sized) -> None:
    """Refuse what no score can be computed of.

    Raises:
        ValueError: there are no items, or not as many predictions as gold items.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold items but {len(predicted)} predictions")
    if not len(gold):
        raise ValueError("no items to score")


def ratio(part: float, whole: float) -> float:
    """``part / whole``, and 0 where ``whole`` is 0, as the field's evaluation scripts have it."""
    return part / whole if whole else 0.0
