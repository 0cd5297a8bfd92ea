"""The groups `training` and `memory`: the same contenders, taking turns for speed, one after another for memory.

And the group `side-by-side`: small runs at once, beside the same ones one after another.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from suite.machine import device
from suite.options import Options
from suite.pretrained import WORDS, pretrained
from suite.timing import alternated
from suite.training.contenders import CONTENDERS, SIDE_BY_SIDE, Contender
from suite.workers import Worker

Batches = tuple[tuple[int, int], ...]
BATCHES: Batches = ((32, 64), (16, 256))
SMALL_BATCHES: Batches = ((8, 32), (16, 64))
PRECISIONS = ("float32", "bf16")
WARM_UPS, STEPS = 2, 9


def training(options: Options) -> dict[str, Any]:
    """Seconds of one step: padding a batch, forward, backward, clipping, AdamW."""
    return _steps(options, CONTENDERS, BATCHES)


def side_by_side(options: Options) -> dict[str, Any]:
    """Seconds of one step of each of four runs, which differ in their seeds: side by side in one pass of the backbone,
    or one after another."""
    return _steps(options, SIDE_BY_SIDE, SMALL_BATCHES)


def _steps(options: Options, contenders: Mapping[str, Contender], batches: Batches) -> dict[str, Any]:
    found = {}
    for setting, jobs in _settings(options, contenders, batches):
        workers = {}
        for name, job in jobs.items():  # loaded one after another: threads of one process would disturb each other
            workers[name] = Worker(job, contenders[name].environment, inside=options.smoke)
            workers[name].wait()
        running = {name: worker.step for name, worker in workers.items() if worker.reason is None}
        times = alternated(running, *options.plan(STEPS, WARM_UPS))
        found[setting] = {name: worker.summary(times.get(name, []), "s") for name, worker in workers.items()}
        for worker in workers.values():
            worker.close()
    return found


def memory(options: Options) -> dict[str, Any]:
    """Peak memory of three steps in a process of their own, above the loaded model."""
    found: dict[str, Any] = {}
    for setting, jobs in _settings(options, CONTENDERS, BATCHES):
        found[setting] = {}
        for name, job in jobs.items():
            worker = Worker(job, CONTENDERS[name].environment, inside=options.smoke)
            worker.wait()
            for _ in range(1 if options.smoke else 3):
                worker.step()
            worker.close()
            found[setting][name] = worker.summary([worker.report.get("peak", 0) / 2**20], "MiB")
    return found


def texts(rows: int, longest: int) -> list[str]:
    """Texts of half as many tokens as the longest to as many, evenly; two tokens are those of the ends."""
    chance = random.Random(0)
    lengths = [longest, *(chance.randint(longest // 2, longest) for _ in range(rows - 1))]
    return [" ".join(chance.choices(WORDS, k=length - 2)) for length in lengths]


def _settings(
    options: Options, contenders: Mapping[str, Contender], batches: Batches
) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Every setting, and what each contender is told in it."""
    with pretrained(tiny=options.smoke) as model:
        for rows, longest in ((2, 8),) if options.smoke else batches:
            for precision in PRECISIONS[1:] if options.smoke else PRECISIONS:
                setting = f"{rows}x{longest} {precision}"
                if not options.wanted_setting(setting):
                    continue
                shared = {
                    **model._asdict(),
                    "texts": texts(rows, longest),
                    "precision": precision,
                    "threads": options.threads,
                    "device": device(),
                }
                wanted = {name: one for name, one in contenders.items() if options.wanted(name)}
                jobs = {name: {**shared, "run": one.run, "options": one.options} for name, one in wanted.items()}
                yield setting, jobs
