"""Running the cells of a study: each once, whatever happens to the others, by one process or several."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol

import torch

from foreword.errors import CheckpointError, OutputError, RecipeError
from foreword.recipes.run import ARTIFACT, MARKER, Job, run_side_by_side
from foreword.recipes.workbench import Workbench
from foreword.studies.cells.cell import Cell, CellRecord, CellResult, Evaluation
from foreword.studies.cells.meter import Meter
from foreword.studies.cells.store import Store, Taken
from foreword.training.loop import Interrupted
from foreword.training.run import TrainedRun
from foreword.training.side_by_side import pass_of, why_alone

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
        side_by_side: most cells that a process trains at once.
        keep: whether artifacts are kept.
        report: told about every cell that is over.
    """

    plan: Plan
    folder: Path
    began: float
    side_by_side: int = 1
    keep: bool = False
    report: Report | None = None


def run_study(
    plan: Plan,
    folder: Path,
    *,
    jobs: int = 1,
    side_by_side: int = 1,
    keep: bool = False,
    report: Report | None = None,
) -> None:
    """Run all cells of a study that are not finished; those that fail are recorded and passed over.

    Args:
        plan: what there is to run.
        folder: of the study. Other calls may work on it at the same time.
        jobs: processes; each computes with its share of the cores.
        side_by_side: most cells that each of them trains at once (`companies`).
        keep: keep the artifacts (``runs/KEY/artifact``).
        report: told about every cell that is over, by the process that ran it.

    Raises:
        Interrupted, KeyboardInterrupt: by Ctrl-C; what was running has saved its checkpoint.
        OutputError: the folder cannot be written, or a process died.
        RecipeError: an artifact that runs start from is not there.
    """
    _check_starts(plan.cells({}))
    call = Call(plan, folder, time.time(), side_by_side, keep, report)
    if jobs == 1:
        _work(call)
    else:
        _work_in_processes(call, jobs)


def _check_starts(cells: Sequence[Cell]) -> None:
    """See that what cells start from is there: they are known by it, and would not be found again once it is."""
    first: dict[str, Cell] = {}
    for cell in cells:
        start = cell.checked.training.start_from
        if start is not None and not Path(start).exists():
            first.setdefault(start, cell)
    if first:
        raise RecipeError(
            [f"{cell.name}: training.start_from: {start}: there is none yet; train it" for start, cell in first.items()]
        )


def _work(call: Call) -> None:
    """Run what is left, until nothing is."""
    store, bench = Store(call.folder), Workbench()
    parent = parent_process()
    while parent is None or parent.is_alive():
        left = unfinished(call, store)
        if not left:
            return
        if not any(_try(cells, call, store, bench) for cells in companies(left, call.side_by_side)):
            time.sleep(_WAIT)


def unfinished(call: Call, store: Store) -> list[Cell]:
    """Cells that neither are finished nor have failed in this call."""
    over = {
        key: record.result
        for key, record in store.records().items()
        if record.result is not None or record.ended >= call.began
    }
    return [cell for cell in call.plan.cells(over) if cell.key not in over]


def companies(cells: Sequence[Cell], most: int) -> list[list[Cell]]:
    """Cells that are trained side by side: of one recipe, and such that they can share a pass of the backbone.

    Args:
        cells: in the order they should run. Each company runs when it is the turn of its first.
        most: cells of a company.
    """
    found: list[list[Cell]] = []
    joined: dict[object, list[Cell]] = {}
    for cell in {cell.key: cell for cell in cells}.values():  # a trial may be the run of a seed as well
        recipe = cell.checked
        shared = (cell.recipe, recipe.backbone.model_dump_json(), pass_of(recipe.training))
        company = joined.get(shared)
        alone = most == 1 or why_alone(recipe.method, recipe.task) is not None
        if alone or company is None or len(company) == most:
            company = []
            found.append(company)
        if not alone:
            joined[shared] = company
        company.append(cell)
    return found


def _try(cells: Sequence[Cell], call: Call, store: Store, bench: Workbench) -> bool:
    """Run cells, but for those that another process has; whether there were others."""
    with ExitStack() as claims:
        died: list[tuple[Cell, float | None]] = []
        for cell in cells:
            with suppress(Taken):
                died.append((cell, claims.enter_context(store.claim(cell))))
        claimed = bool(died)
        left = {one.key for one in unfinished(call, store)}  # another process may have been faster
        dead = [cell for cell, when in died if cell.key in left and when is not None and when >= call.began]
        alive = [cell for cell, when in died if cell.key in left and cell not in dead]
        records = [_failed(cell, "the process that ran it died, as it does when memory runs out") for cell in dead]
        records += _run(alive, store, bench, keep=call.keep)
        for cell, record in zip([*dead, *alive], records, strict=True):
            store.write(cell, record)
    if call.report is not None:
        for cell, record in zip([*dead, *alive], records, strict=True):
            call.report(cell, record)
    return claimed


def _run(cells: Sequence[Cell], store: Store, bench: Workbench, *, keep: bool) -> list[CellRecord]:
    """What comes of cells. Only a stop from outside goes further than them."""
    began, meters = time.perf_counter(), [Meter() for _ in cells]
    ends = _trained(cells, meters, store, bench)
    wall_seconds = time.perf_counter() - began
    records = []
    for cell, meter, end in zip(cells, meters, ends, strict=True):
        if isinstance(end, Exception):  # whatever it is, the other cells go on
            store.clear(cell)
            records.append(_failed(cell, f"{type(end).__name__}: {end}"))
            continue
        result = _result(end, store.run_folder(cell) / ARTIFACT, meter, wall_seconds, len(cells))
        if not keep:
            store.clear(cell)
        records.append(
            CellRecord(key=cell.key, tags=dict(cell.tags), command=cell.command, ended=time.time(), result=result)
        )
    return records


def _trained(
    cells: Sequence[Cell], meters: Sequence[Meter], store: Store, bench: Workbench
) -> list[TrainedRun | Exception]:
    """The runs of cells, taken up from checkpoints that are left of them, if those still fit."""
    resumed = [(store.run_folder(cell) / MARKER).is_file() for cell in cells]
    jobs = [
        Job(cell.checked, store.run_folder(cell), resume, meter, cell.score_test)
        for cell, meter, resume in zip(cells, meters, resumed, strict=True)
    ]
    try:
        ends = run_side_by_side(jobs, bench=bench)
    except Interrupted:
        raise
    except Exception as error:  # memory, say, which ends all of them
        return [error] * len(cells)
    unfit = [
        number
        for number, (end, resume) in enumerate(zip(ends, resumed, strict=True))
        if resume and isinstance(end, CheckpointError | OutputError)
    ]  # of another release or of data that moved, or it only lacked its record
    for number in unfit:
        store.clear(cells[number])
    if unfit:
        again = _trained([cells[n] for n in unfit], [meters[n] for n in unfit], store, bench)
        for number, end in zip(unfit, again, strict=True):
            ends[number] = end
    return ends


def _failed(cell: Cell, error: str) -> CellRecord:
    return CellRecord(key=cell.key, tags=dict(cell.tags), command=cell.command, ended=time.time(), error=error)


def _result(run: TrainedRun, artifact: Path, meter: Meter, wall_seconds: float, side_by_side: int) -> CellResult:
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
        side_by_side=side_by_side,
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
    with _handled(signal.SIGINT, signal.SIG_IGN):  # Ctrl-C, until a worker has found its feet
        for worker in workers:
            worker.start()
    try:
        with _handled(signal.SIGTERM, signal.default_int_handler):  # a polite kill leaves no worker behind
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
def _handled(number: signal.Signals, handler: signal.Handlers | Callable[..., object]) -> Iterator[None]:
    """While it lasts, a signal has this handler; processes that are started meanwhile inherit one that ignores it."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


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
