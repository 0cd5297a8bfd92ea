"""What is asked for, and the arithmetic of whether it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from suite.timing import ratio

Settings = Mapping[str, Mapping[str, Any]]
"""Setting -> contender -> a summary, or ``{"unavailable": reason}``."""


@dataclass(frozen=True, slots=True)
class Target:
    """A figure that must be reached.

    Attributes:
        ours: contender that must reach it.
        theirs: contender it is compared with; None for a figure that stands alone.
        setting: where both were measured.
        bound: 'at least' so many times as fast as theirs, or 'at most' so many times as much as theirs (or as such).
        value: of the bound.
    """

    ours: str
    theirs: str | None
    setting: str
    bound: Literal["at least", "at most"]
    value: float

    def judged(self, settings: Settings) -> Verdict:
        """Compare it with what was measured."""
        found = [settings.get(self.setting, {}).get(name, {}) for name in (self.ours, self.theirs) if name is not None]
        if any("samples" not in one for one in found):
            return Verdict(self, None, None)
        samples = [one["samples"] for one in found]
        if self.theirs is None:
            measured = found[0]["median"]
        elif self.bound == "at least":
            measured = ratio(samples[1], samples[0])
        else:
            measured = ratio(samples[0], samples[1])
        reached = measured >= self.value if self.bound == "at least" else measured <= self.value
        return Verdict(self, measured, reached)


class Verdict(NamedTuple):
    """A target and what was measured; None where one of the two did not run."""

    target: Target
    measured: float | None
    reached: bool | None
