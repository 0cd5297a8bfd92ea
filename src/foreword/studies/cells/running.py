"""Running the cells of a study: each once, whatever happens to the others, by one process or several."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol

import torch

from foreword.errors import CheckpointError, OutputError
from foreword.recipes.run import ARTIFACT, MARKER, run_recipe
from foreword.recipes.workbench import Workbench
from foreword.studies.cells.cell import Cell, CellRecord, CellResult, Evaluation
from foreword.studies.cells.meter import Meter
from foreword.studies.cells.store import Store, Taken
from foreword.training.loop import Interrupted
from foreword.training.run import TrainedRun

UNFOLDED = "unfolded.safetensors"
_WAIT = 1.0
"""Seconds until a worker looks again whether what the others run has opened something for it to do."""

Over = Mapping[str, CellResult | None]
"""Key of every cell that is over -> its result, None where it failed."""


class Plan(Protocol):
    """What a study is made of. It is sent to other processes, so it must pickle."""

    def cells(self, over: Over) -> Sequence[Cell]:
        """All cells that can be named by now, in the order they should be run; more may follow from their results."""


Report = Callable[[Cell, CellRecord], None]
"""Told about every cell that is over."""


@dataclass(frozen=True)
class Call:
    """One call of a study, which one process or several serve.

    Attributes:
        plan: what there is to run.
        folder: of the study.
        began: seconds since 1970. What failed after that is not tried again; what failed before is.
        keep: whether artifacts are kept.
        report: told about every cell that is over.
    """

    plan: Plan
    folder: Path
    began: float
    keep: bool = False
    report: Report | None = None


def run_study(plan: Plan, folder: Path, *, jobs: int = 1, keep: bool = False, report: Report | None = None) -> None:
    """Run all cells of a study that are not finished; those that fail are recorded and passed over.

    Args:
        plan: what there is to run.
        folder: of the study. Other calls may work on it at the same time.
        jobs: processes; each computes with its share of the cores.
        keep: keep the artifacts (``runs/KEY/artifact``).
        report: told about every cell that is over, by the process that ran it.

    Raises:
        Interrupted, KeyboardInterrupt: by Ctrl-C; what was running has saved its checkpoint.
        OutputError: the folder cannot be written, or a process died.
    """
    call = Call(plan, folder, time.time(), keep, report)
    if jobs == 1:
        _work(call)
    else:
        _work_in_processes(call, jobs)


def _work(call: Call) -> None:
    """Run what is left, until nothing is."""
    store, bench = Store(call.folder), Workbench()
    parent = parent_process()
    while parent is None or parent.is_alive():
        left = unfinished(call, store)
        if not left:
            return
        if not any(_try(cell, call, store, bench) for cell in left):
            time.sleep(_WAIT)


def unfinished(call: Call, store: Store) -> list[Cell]:
    """Cells that neither are finished nor have failed in this call."""
    over = {
        key: record.result
        for key, record in store.records().items()
        if record.result is not None or record.ended >= call.began
    }
    return [cell for cell in call.plan.cells(over) if cell.key not in over]


def _try(cell: Cell, call: Call, store: Store, bench: Workbench) -> bool:
    """Run a cell unless another process has it; whether it was run."""
    try:
        with store.claim(cell) as died:
            if cell.key not in {one.key for one in unfinished(call, store)}:
                return True  # another process was faster
            if died is not None and died >= call.began:
                record = _failed(cell, "the process that ran it died, as it does when memory runs out")
            else:
                record = _run(cell, store, bench, keep=call.keep)
            store.write(cell, record)
    except Taken:
        return False
    if call.report is not None:
        call.report(cell, record)
    return True


def _run(cell: Cell, store: Store, bench: Workbench, *, keep: bool) -> CellRecord:
    """What comes of a cell. Only a stop from outside goes further than this cell."""
    began, meter, folder = time.perf_counter(), Meter(), store.run_folder(cell)
    try:
        run = _resumed_or_fresh(cell, store, bench, meter)
        result = _result(run, folder / ARTIFACT, meter, time.perf_counter() - began)
    except Interrupted:
        raise
    except Exception as error:  # whatever it is, the other cells go on
        store.clear(cell)
        return _failed(cell, f"{type(error).__name__}: {error}")
    if not keep:
        store.clear(cell)
    return CellRecord(key=cell.key, tags=dict(cell.tags), command=cell.command, ended=time.time(), result=result)


def _resumed_or_fresh(cell: Cell, store: Store, bench: Workbench, meter: Meter) -> TrainedRun:
    """Go on from a checkpoint that is left of this cell, if it still fits."""
    folder = store.run_folder(cell)
    if (folder / MARKER).is_file():
        try:
            return _train(cell, folder, bench, meter, resume=True)
        except (CheckpointError, OutputError):  # of another release or of data that moved, or it only lacked its record
            store.clear(cell)
    return _train(cell, folder, bench, meter, resume=False)


def _train(cell: Cell, folder: Path, bench: Workbench, meter: Meter, *, resume: bool) -> TrainedRun:
    return run_recipe(cell.checked, folder, resume=resume, tracker=meter, bench=bench, score_test=cell.score_test)


def _failed(cell: Cell, error: str) -> CellRecord:
    return CellRecord(key=cell.key, tags=dict(cell.tags), command=cell.command, ended=time.time(), error=error)


def _result(run: TrainedRun, artifact: Path, meter: Meter, wall_seconds: float) -> CellResult:
    manifest = run.manifest()
    if run.model.attachment is not None:
        run.model.attachment.detach()  # the backbone goes on to the next cell
    files = {file.name: file.stat().st_size for file in artifact.glob("*.safetensors")}
    main = manifest.metrics.main
    return CellResult(
        holdout=manifest.metrics,
        test=manifest.test,
        parameters=manifest.parameters,
        bytes=sum(size for name, size in files.items() if name != UNFOLDED),
        steps=manifest.training.steps,
        best_step=manifest.training.best_step,
        seconds=manifest.training.seconds,
        seconds_per_step=round(meter.step_seconds / max(meter.steps, 1), 5),
        wall_seconds=round(wall_seconds, 3),
        peak_memory=meter.peak_memory,
        threads=torch.get_num_threads(),
        device=run.model.backbone.device.type,
        curve=tuple(
            Evaluation(step=e["step"], seconds=round(e["seconds"], 3), train_loss=e["train_loss"], value=e[main])
            for e in manifest.training.evaluations
        ),
        data=manifest.data,
        notes=tuple(run.warnings),
        recipe=manifest.recipe,
        versions=manifest.versions,
    )


def _work_in_processes(call: Call, jobs: int) -> None:
    """Let ``jobs`` processes serve a call, and wait for them."""
    context = get_context("spawn")
    threads, stop = max(1, _cores() // jobs), context.Event()
    workers = [context.Process(target=_worker, args=(call, threads, stop)) for _ in range(jobs)]
    with _deaf():  # until a worker has found its feet
        for worker in workers:
            worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        stop.set()
        for worker in workers:  # each saves its checkpoint first
            if worker.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGINT)
        for worker in workers:
            worker.join()
        raise
    codes = [worker.exitcode for worker in workers]
    if _STOPPED in codes:
        raise KeyboardInterrupt
    if any(codes):
        raise OutputError(f"{call.folder}: {sum(map(bool, codes))} of {jobs} processes died. Call again to go on")


_STOPPED = 130


@contextmanager
def _deaf() -> Iterator[None]:
    """Let processes that are started here begin without an ear for Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _worker(call: Call, threads: int, stop: Event) -> None:
    """The whole life of a process."""
    os.setpgrp()  # a terminal's Ctrl-C is for the process that waits for us, which passes it on
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not stop.is_set():
            _work(call)
    except (Interrupted, KeyboardInterrupt):
        sys.exit(_STOPPED)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
