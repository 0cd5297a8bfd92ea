"""Learning-rate schedules, as plain functions from a step to a factor in [0, 1]."""

from __future__ import annotations

import math

from foreword.training.settings import TrainingSettings


def rate_factor(settings: TrainingSettings, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """What the base rate is multiplied by for optimizer step ``step`` (counted from 0).

    Args:
        settings: schedule, warmup and decay.
        total_steps: optimizer steps of the whole run.
        steps_per_epoch: optimizer steps of one epoch.
    """
    warmup = round(settings.warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(total_steps - warmup, 1)
    match settings.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "exponential":
            return settings.exponential_decay ** (step // max(steps_per_epoch, 1))
