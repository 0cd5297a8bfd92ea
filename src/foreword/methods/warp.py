"""WARP: vectors around the text that start as mask tokens.

Source: Hambardzumyan et al. 2021, 'WARP: Word-level Adversarial ReProgramming', section 3, and its
code. This is the prompt alone; the paper's other half, a learned embedding per class that is
compared with what the language model sees at the mask, is a head of the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field

from foreword.methods.base import Blueprint, Host, Method
from foreword.methods.making.initializers import input_width, mask_rows
from foreword.methods.making.template import Template, anchors_of
from foreword.methods.prompt_tuning import VectorEncoder


class WARP(Method):
    """Settings of WARP's prompt."""

    name: ClassVar[str] = "warp"
    summary: ClassVar[str] = "vectors around text and mask that start as mask tokens (Hambardzumyan et al. 2021)"

    template: Template = (10, "text", 10)
    """Counts of vectors and what they stand around: 'text', 'pair' (the second one) and, for tasks with one, 'mask'."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which single numbers of the prompt are dropped while training."""

    @property
    def positions_taken(self) -> int:
        """P, the sum of the template's counts."""
        return len(anchors_of(self.template))

    @property
    def default_learning_rate(self) -> float:
        """The rate in the authors' code."""
        return 1e-3

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> VectorEncoder:
        """The mask token's embedding at every place of the template."""
        del labels
        anchors, width = anchors_of(self.template), input_width(backbone)
        if isinstance(backbone, Blueprint):  # only the shape is wanted
            start = torch.empty(len(anchors), width, device="meta")
        else:
            start = mask_rows(backbone, len(anchors))
        return VectorEncoder(start, anchors, self.dropout)
