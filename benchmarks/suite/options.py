"""What the command line says to every group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        smoke: least sizes and one round: whether it runs at all.
        threads: of a computation on the CPU.
        rounds: timed rounds; the group's own number if None.
        out: folder of the results, one folder in it for each group.
        only: contenders whose names have one of these in them; all if empty.
        settings: the same of settings.
    """

    smoke: bool
    threads: int
    out: Path
    rounds: int | None = None
    only: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def plan(self, rounds: int, warm_ups: int) -> tuple[int, int]:
        """Timed rounds and warm-ups, of a group that takes so many by itself."""
        return (1, 0) if self.smoke else (self.rounds or rounds, warm_ups)

    def wanted(self, name: str) -> bool:
        """Whether a contender takes part."""
        return _has(name, self.only)

    def wanted_setting(self, name: str) -> bool:
        """Whether a setting does."""
        return _has(name, self.settings)


def _has(name: str, parts: tuple[str, ...]) -> bool:
    return not parts or any(part in name for part in parts)
