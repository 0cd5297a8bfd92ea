"""How results are put in words: names, shares, sizes, times."""

from __future__ import annotations

import math
from collections.abc import Sequence

PROMPT, FULL = "ptuning-v2", "fine-tuning"
"""The method that studies are about, and the baseline it is measured by."""

METHOD_NAMES = {
    PROMPT: "P-Tuning v2",
    "prefix-tuning": "Prefix-tuning",
    "prompt-tuning": "Prompt tuning",
    "p-tuning": "P-tuning",
    "layer-deltas": "Layer deltas",
    "warp": "WARP",
    "ssf": "Scale and shift",
    FULL: "Fine-tuning",
    "bitfit": "BitFit",
    "ln-tuning": "LN-tuning",
    "lora": "LoRA",
    "ia3": "(IA)^3",
    "adapter": "Adapters",
    "head-only": "Head only",
    "combined": "Combined",
    "mixture": "Mixture of prompts",
}
_METRICS = {"f1": "F1", "exact_match": "exact match"}


def method_name(method: str) -> str:
    """The method as people write it, with what names the variant after it."""
    for name, written in METHOD_NAMES.items():
        if method.startswith(name):
            return written + method.removeprefix(name)
    return method


def metric_name(metric: str) -> str:
    """The metric as people write it."""
    return _METRICS.get(metric, metric.replace("_", " ").replace("-", " "))


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal."""
    return f"{fraction:.1%}"


def spread(mean: float, deviation: float | None) -> str:
    """A mean score in percent, with its deviation where there is one."""
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def share(fraction: float) -> str:
    """A fraction as a percentage, with as many decimals as a small one needs."""
    if fraction >= 0.0995 or fraction == 0:
        return f"{fraction:.0%}"
    decimals = 1 - math.floor(math.log10(fraction * 100))
    return f"{fraction:.{max(decimals, 1)}%}"


def size(count: int) -> str:
    """A number of bytes in the largest unit that leaves at least one of it."""
    if count < 1000:
        return f"{count} B"
    power, unit = next(
        (power, unit) for power, unit in ((3, "kB"), (6, "MB"), (9, "GB")) if count < 999.5 * 10**power or power == 9
    )
    amount = count / 10**power
    return f"{amount:.0f} {unit}" if amount >= 99.95 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """A time in the one or two units that matter."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"


def span(fractions: Sequence[float]) -> str:
    """One share, or the least and the greatest of several."""
    low, high = share(min(fractions)), share(max(fractions))
    return low if low == high else f"{low} to {high}"


def listed(parts: Sequence[str]) -> str:
    """Several things in a row, with 'and' before the last."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
