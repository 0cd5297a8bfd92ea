"""The group `trials`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from suite.options import Options
from suite.pretrained import Pretrained, pretrained
from suite.timing import alternated, ratio, summary
from suite.trials import packed, steps, whole
from suite.trials.work import Run, Work

ROUNDS, WARM_UPS = 15, 2
Trial = Callable[[Work], Run]


class Setting(NamedTuple):
    """Who takes part on which rows; the first is the one that others are compared with."""

    name: str
    trials: Mapping[str, Trial]
    lengths: list[int]


def trials(options: Options) -> dict[str, Any]:
    """Seconds of inference and of training steps with a prompt of 20: first as Foreword does it, then in other ways."""
    with pretrained(tiny=options.smoke) as model:
        chosen = [one for one in settings(tiny=options.smoke) if options.wanted_setting(one.name)]
        return {setting.name: _measured(setting, model, options) for setting in chosen}


def settings(*, tiny: bool = False) -> Iterator[Setting]:
    """Batches of rows that are nearly alike, of mixed lengths, and steps of training."""
    for rows, longest in ((3, 8),) if tiny else ((64, 64), (8, 16)):
        yield Setting(f"inference {rows}x{longest}", whole.TRIALS, _lengths(rows, longest // 2, longest))
    rows, longest = (3, 8) if tiny else (64, 128)
    yield Setting(f"inference {rows} of mixed lengths", packed.TRIALS, _lengths(rows, 4, longest))
    rows, longest = (3, 8) if tiny else (32, 64)
    yield Setting(f"training {rows}x{longest}", steps.TRIALS, _lengths(rows, longest // 2, longest))


def _lengths(rows: int, least: int, longest: int) -> list[int]:
    chance = random.Random(0)
    return [longest, *(chance.randint(least, longest) for _ in range(rows - 1))]


def _measured(setting: Setting, model: Pretrained, options: Options) -> dict[str, Any]:
    work = Work(model, setting.lengths, threads=options.threads, tiny=options.smoke)
    first = next(iter(setting.trials))
    reasons, running, figures = dict[str, str](), dict[str, Run](), dict[str, dict[str, float]]()
    expected: list[Tensor] = []
    for name, trial in setting.trials.items():
        if name != first and not options.wanted(name):
            continue
        began = time.perf_counter()
        try:
            run = trial(work)
            answer = run()
        except Exception as error:  # whatever a library raises is the trial's result
            reasons[name] = f"{type(error).__name__}: {_first_line(error)}"
            continue
        ready = time.perf_counter() - began
        expected = expected or answer
        running[name], figures[name] = run, {"difference": difference(answer, expected), "ready": ready}
    times = alternated(running, *options.plan(ROUNDS, WARM_UPS))
    return {name: {"unavailable": reason} for name, reason in reasons.items()} | {
        name: summary(samples, "s") | {"figures": {"of the first": ratio(samples, times[first]), **figures[name]}}
        for name, samples in times.items()
    }


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference of two numbers over the largest of the expected ones."""
    largest = max(float(one.abs().max()) for one in expected)
    return max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)) / largest


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")[:300]
