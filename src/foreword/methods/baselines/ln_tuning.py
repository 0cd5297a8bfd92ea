"""LN-tuning: the baseline that trains the gains and biases of the backbone's normalization layers.

Source: Qi et al. 2022, 'Parameter-Efficient Tuning on Layer Normalization for Pre-trained Language Models', which
combines it with prefix-tuning as well: here a `Combined` method with `PTuningV2` or `PrefixTuning` as its other part.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

from foreword.errors import MethodError
from foreword.methods.base import Method

_NORMALIZATION = re.compile(r"(^|\.)(\w*norm\w*|ln_\w+)\.(weight|bias)$", re.IGNORECASE)
"""Weights of modules called LayerNorm, layer_norm, input_layernorm, norm, ln_1, ..."""


class LNTuning(Method):
    """Settings of LN-tuning. The weights are trained in place, so each model needs a backbone of its own."""

    name: ClassVar[str] = "ln-tuning"
    summary: ClassVar[str] = "baseline: train gains and biases of the normalization layers (Qi et al. 2022)"

    @property
    def tunes_backbone(self) -> bool:
        """Its normalization layers."""
        return True

    def tuned(self, names: Sequence[str]) -> frozenset[str]:
        """Names of weights of normalization layers."""
        found = frozenset(name for name in names if _NORMALIZATION.search(name))
        if not found:
            raise MethodError("no module of the backbone is called a norm, so ln-tuning finds nothing to train")
        return found

    @property
    def default_learning_rate(self) -> float:
        """That of `BitFit`, which trains numbers of the same kind."""
        return 1e-3
