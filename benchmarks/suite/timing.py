"""Contenders that take turns, and what is kept of their times."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any


def alternated(contenders: Mapping[str, Callable[[], Any]], rounds: int, warm_ups: int = 1) -> dict[str, list[float]]:
    """Seconds of every contender in every round, after some that do not count; each round begins with another."""
    names = list(contenders)
    for _ in range(warm_ups):
        for name in names:
            contenders[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        turn = number % max(len(names), 1)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            began = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - began)
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the rounds' own ratios."""
    return median(one / other for one, other in zip(ours, theirs, strict=True))


def summary(samples: Sequence[float], unit: str) -> dict[str, Any]:
    """Samples as they stand in a result."""
    return {
        "unit": unit,
        "min": min(samples),
        "median": median(samples),
        "max": max(samples),
        "samples": list(samples),
    }


def resident_memory() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def shown(title: str, result: Mapping[str, Any]) -> str:
    """A result as Markdown; of times, the least and the median in milliseconds."""
    lines = [f"# {title}", "", str(result["what"]), "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in _leaves(result) if key != "what"]
    return "\n".join(lines) + "\n"


def _leaves(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping):
            found += _leaves(inner, f"{name}: ")
        elif isinstance(inner, list) and inner and isinstance(inner[0], float):
            found.append((name, f"{1000 * min(inner):.1f} ms at least, {1000 * median(inner):.1f} ms median"))
        else:
            found.append((name, f"{inner:.3f}" if isinstance(inner, float) else str(inner)))
    return found
