"""The head-only probe: the baseline that shows what the frozen backbone already knows."""

from __future__ import annotations

from typing import ClassVar

from foreword.methods.base import Method


class HeadOnly(Method):
    """No prompt, a frozen backbone; only the task's head is trained."""

    name: ClassVar[str] = "head-only"
    summary: ClassVar[str] = "baseline: frozen backbone, train the head alone"
