"""The groups `training` and `memory`: the same contenders, taking turns for speed, one after another for memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from suite.machine import device
from suite.options import Options
from suite.pretrained import WORDS, pretrained
from suite.timing import alternated
from suite.training.contenders import CONTENDERS
from suite.workers import Worker

BATCHES = ((32, 64), (16, 256))
PRECISIONS = ("float32", "bf16")
WARM_UPS, STEPS = 2, 9


def training(options: Options) -> dict[str, Any]:
    """Seconds of one step: padding a batch, forward, backward, clipping, AdamW."""
    found = {}
    for setting, jobs in _settings(options):
        workers = {}
        for name, job in jobs.items():  # loaded one after another: threads of one process would disturb each other
            workers[name] = Worker(job, CONTENDERS[name].environment, inside=options.smoke)
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
    for setting, jobs in _settings(options):
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


def _settings(options: Options) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Every setting, and what each contender is told in it."""
    with pretrained(tiny=options.smoke) as model:
        for rows, longest in ((2, 8),) if options.smoke else BATCHES:
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
                wanted = {name: one for name, one in CONTENDERS.items() if options.wanted(name)}
                jobs = {name: {**shared, "run": one.run, "options": one.options} for name, one in wanted.items()}
                yield setting, jobs
