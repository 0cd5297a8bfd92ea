"""The group `serving-batch`."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import foreword as fw
from foreword.artifacts.format import Artifact
from foreword.inference.engine import Engine, Job
from foreword.injection import Injection, Prompt
from foreword.methods import single
from suite.options import Options
from suite.pretrained import Pretrained, pretrained
from suite.serving_batch.peft_run import peft_by_task
from suite.serving_batch.rows import PROMPT, ROWS, base_artifacts, jobs_of, requests, variants
from suite.timing import alternated, summary
from suite.workers import Worker

ROUNDS, WARM_UPS = 15, 2


class Setting(NamedTuple):
    """Rows of so many tokens, of so many tasks."""

    rows: int
    tokens: int
    tasks: int
    precision: str

    def __str__(self) -> str:
        return f"{self.rows}x{self.tokens}, {self.tasks} tasks, {self.precision}"


SETTINGS = (
    Setting(ROWS, 64, 16, "float32"),
    Setting(ROWS, 64, 16, "bf16"),
    Setting(ROWS, 16, 64, "float32"),
    Setting(ROWS, 16, 64, "bf16"),
)
SMOKE = (Setting(4, 8, 2, "bf16"),)


def serving_batch(options: Options) -> dict[str, Any]:
    """Seconds for one batch of requests to tasks of three kinds, each with its own prompt of 20 and its own head."""
    with pretrained(tiny=options.smoke) as model, tempfile.TemporaryDirectory() as scratch:
        backbone = fw.load_backbone(model.name)
        bases = base_artifacts(backbone, Path(scratch))
        chosen = [one for one in (SMOKE if options.smoke else SETTINGS) if options.wanted_setting(str(one))]
        return {str(setting): _measured(setting, model, backbone, bases, options) for setting in chosen}


def _measured(
    setting: Setting, model: Pretrained, backbone: fw.Backbone, bases: Mapping[str, Artifact], options: Options
) -> dict[str, Any]:
    artifacts = variants(bases, setting.tasks)
    bf16 = setting.precision == "bf16"
    engine = Engine(backbone, artifacts, bf16=bf16)
    names = [name for name in artifacts for _ in range(setting.rows // setting.tasks)]
    random.Random(1).shuffle(names)
    asked = requests(artifacts, names, random.Random(0), setting.tokens)
    jobs = jobs_of(engine, asked)
    ids = {name: _ids([job for job in jobs if job.handle.task == name], setting.tokens) for name in artifacts}
    together = torch.cat(list(ids.values()))
    real = torch.ones_like(together)
    prompts = [single(artifact.prompt or Prompt()) for artifact in artifacts.values()]
    bank = [prompt.with_prefix(torch.bfloat16) if bf16 else prompt for prompt in prompts]
    injection = Injection(bank, torch.arange(len(bank)).repeat_interleave(setting.rows // setting.tasks))
    by_task = [[job for job in jobs if job.handle.task == name] for name in artifacts]

    def plain(run: Callable[[], Any]) -> Callable[[], Any]:
        def steps() -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                run()

        return steps

    contenders: dict[str, Callable[[], Any]] = {
        "bare model": plain(lambda: backbone(together, real)),
        "Foreword, layers and prompts": plain(lambda: backbone(together, real, injection=injection)),
        "Foreword, one pass": lambda: engine.run(jobs),
        "Foreword, texts to answers": lambda: engine.predict(asked),
        "Foreword, task after task": lambda: [engine.run(own) for own in by_task],
        "PEFT, set_adapter per task": plain(peft_by_task(model.folder, ids, PROMPT)),
    }
    shared = {
        **model._asdict(),
        "run": "suite.serving_batch.adapters_run",
        "rows": together.tolist(),
        "tasks": setting.tasks,
        "precision": setting.precision,
        "threads": options.threads,
        "device": "cpu",
    }
    workers = {
        name: Worker({**shared, "length": length}, "adapters", inside=options.smoke)
        for name, length in (("AdapterHub, bare model", 0), ("AdapterHub, BatchSplit", PROMPT))
    }
    for name, worker in workers.items():
        worker.wait()
        if worker.reason is None:
            contenders[name] = worker.step
    wanted = {name: run for name, run in contenders.items() if options.wanted(name)}
    times = alternated(wanted, *options.plan(ROUNDS, WARM_UPS))
    found = {name: summary(samples, "s") for name, samples in times.items()}
    found |= {name: {"unavailable": worker.reason} for name, worker in workers.items() if worker.reason is not None}
    for worker in workers.values():
        worker.close()
    return found


def _ids(jobs: Sequence[Job], tokens: int) -> Tensor:
    """The rows of a task ``(B, T)``, without padding: shorter ones are filled up with their own beginnings."""
    rows = [row.input_ids for job in jobs for part in job.parts for row in part.rows]
    return torch.tensor([row + row[: tokens - len(row)] for row in rows])
