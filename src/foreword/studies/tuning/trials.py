"""What a search has tried, as plain values, and what it wrote about that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from foreword.recipes.templates.settings import toml_value

End = Literal["finished", "pruned", "diverged"]
"""Run to the end, given up on the way, or given up because the loss was no number any more."""


@dataclass(frozen=True)
class Trial:
    """One configuration and what became of it.

    Attributes:
        number: counted from 0, which is the recipe as it stands.
        settings: dotted path -> value, of what was changed.
        end: what became of it.
        metric: the task's main one.
        values: the metric after every evaluation, in [-1, 1].
        trained: numbers that were trained; None if it was given up.
        seconds: how long it took.
    """

    number: int
    settings: Mapping[str, Any]
    end: End
    metric: str
    values: tuple[float, ...]
    trained: int | None
    seconds: float

    @property
    def value(self) -> float | None:
        """The best of its values; None if it has none."""
        return max(self.values, default=None)


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The finished trial of the highest value; of equal ones the first. None if none was finished."""
    return max((one for one in trials if one.end == "finished"), key=_height, default=None)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Finished ones first, best first; then the others by how far they came."""
    return sorted(trials, key=lambda one: (one.end != "finished", -_height(one)))


def _height(trial: Trial) -> float:
    return -math.inf if trial.value is None else trial.value


def in_words(settings: Mapping[str, Any]) -> str:
    """Settings on one line, by the last part of their names."""
    named = (f"{path.rpartition('.')[2]} = {toml_value(value)}" for path, value in settings.items())
    return ", ".join(named) or "the recipe as it stands"
