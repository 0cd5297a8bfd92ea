"""Full fine-tuning: the baseline that trains every weight of the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from foreword.methods.base import Method


class FineTuning(Method):
    """No prompt; the backbone itself is trained. One full copy of the model per task."""

    name: ClassVar[str] = "fine-tuning"
    summary: ClassVar[str] = "baseline: train every weight of the backbone"

    @property
    def tunes_backbone(self) -> bool:
        """Every weight of it."""
        return True

    def tuned(self, names: Sequence[str]) -> frozenset[str]:
        """All of them."""
        return frozenset(names)

    @property
    def default_learning_rate(self) -> float:
        """A small encoder's usual rate; large ones want 1e-5 to 3e-5."""
        return 1e-4
