"""The processes that train one run together: who takes which rows, what is added up, and who writes.

Every process has all of the data and all that is trained. Of each batch it takes its share of the rows; gradients are
added up, so that all take the step that one process would take with the whole batch. The main process alone prints
and writes. With one process nothing here does anything.

Source: Li et al. 2020 ('PyTorch Distributed'), section 3 (data parallel training). What is trained here is small, so
its gradients are added up after the backward pass instead of during it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from foreword.backbones import may_use_gpu
from foreword.errors import ForewordError

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""After so long without a word from the others, a process gives up. Of one that has died it hears at once."""

_BUCKET = 2**24
"""Most numbers that are added up at a time."""


class Followed(ForewordError):  # noqa: N818  an event, not a mistake
    """Another process of this run could not go on and says why; this one ends with it."""

    code = "training.followed"

    def __init__(self) -> None:
        super().__init__("another process of this run could not go on")


class Lost(ForewordError):  # noqa: N818  an event, not a mistake
    """Another process of this run has gone without a word."""

    code = "training.lost"

    def __init__(self, error: Exception) -> None:
        reason = str(error).partition("\n")[0]
        super().__init__(
            f"lost touch with another process of this run ({reason}). What it said last tells why; --resume goes on "
            "from the last checkpoint"
        )


@dataclass(frozen=True, slots=True)
class Processes:
    """All processes of a run, seen from one of them.

    Attributes:
        device: of this one.
        count: how many there are.
        rank: which of them this is, from 0, which is the main one.
        sharding: whether the layers of the frozen backbone are shared out among them.
    """

    device: torch.device
    count: int = 1
    rank: int = 0
    sharding: bool = False

    @property
    def main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    @property
    def mesh(self) -> DeviceMesh:
        """All of them in a row, as torch wants it."""
        return init_device_mesh(self.device.type, (self.count,))

    def share(self, units: Sequence[T]) -> Sequence[T]:
        """Every ``count``-th of some units, which are this process's; of units in order of length, all get alike."""
        return units[self.rank :: self.count]

    def gathered(self, found: Sequence[T]) -> list[T]:
        """What all processes have found for their shares, in the order of the units."""
        if self.count == 1:
            return list(found)
        parts = self._from_all(found)
        return [parts[number % self.count][number // self.count] for number in range(sum(map(len, parts)))]

    def total(self, number: float) -> float:
        """The sum of a number that each process has."""
        return number if self.count == 1 else self._reduced(number, distributed.ReduceOp.SUM)

    def most(self, number: int) -> int:
        """The largest of a number that each process has."""
        return number if self.count == 1 else int(self._reduced(number, distributed.ReduceOp.MAX))

    @torch.no_grad()
    def add_up(self, parameters: Iterable[nn.Parameter], number: float) -> float:
        """Add up the gradients of all processes in each of them, and a number on the way.

        Args:
            parameters: the same ones, in the same order, in every process. One that no process has a gradient of is
                left without any.
            number: of this process.

        Returns:
            The sum of the number.
        """
        if self.count == 1:
            return number
        trained = list(parameters)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        said = torch.tensor([number, *(float(p.grad is not None) for p in trained)], device=self.device)
        for bucket in _buckets([said, *grads]):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            with translated():
                distributed.all_reduce(flat)
            for tensor in bucket:
                tensor.copy_(flat[: tensor.numel()].view_as(tensor))
                flat = flat[tensor.numel() :]
        total, *seen = said.tolist()
        for parameter, grad, count in zip(trained, grads, seen, strict=True):
            parameter.grad = grad if count else None
        return float(total)

    @torch.no_grad()
    def align(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the main one's numbers to begin with."""
        if self.count > 1:
            with translated():
                for parameter in parameters:
                    distributed.broadcast(parameter, 0)

    def seed(self, seed: int, step: int) -> None:
        """Let each process draw its own random numbers in a step, the same ones whenever the step is done again."""
        if self.count > 1:
            torch.manual_seed(random.Random(f"{seed}/{step}/{self.rank}").getrandbits(63))

    def leave(self) -> None:
        """Say good-bye to the others, when all is done."""
        if self.count > 1:
            distributed.destroy_process_group()

    def led(self, work: Callable[[], T]) -> T:
        """What some work gives that the main process does for all.

        Raises:
            Exception: in the main process whatever the work raised.
            Followed: it raised something; in all others.
        """
        if self.count == 1:
            return work()
        said: list[tuple[T] | None] = [None]
        failure: Exception | None = None
        if self.main:
            try:
                said = [(work(),)]
            except Exception as error:
                failure = error
        with translated():
            distributed.broadcast_object_list(said, 0, device=self.device)
        if failure is not None:
            raise failure
        if said[0] is None:
            raise Followed
        return said[0][0]

    def agreed(self, work: Callable[[], T]) -> T:
        """What some work gives that each process does for itself, if it succeeds in all of them.

        Args:
            work: asks nothing of the other processes.

        Raises:
            Exception: in the main process whatever the work raised there.
            ForewordError: in the main process what it raised in another.
            Followed: it raised something somewhere; in all others.
        """
        if self.count == 1:
            return work()
        found: list[T] = []
        failure: Exception | None = None
        try:
            found.append(work())
        except Exception as error:
            failure = error
        said: list[str | None] = self._from_all(None if failure is None else str(failure) or type(failure).__name__)
        if self.main and failure is not None:
            raise failure
        for rank, words in enumerate(said):
            if words is not None:
                raise ForewordError(f"process {rank}: {words}") if self.main else Followed
        return found[0]

    def check_same(self, digest: str) -> None:
        """See that all processes are about to train the same run.

        Args:
            digest: of all that decides it.

        Raises:
            ForewordError: they are not; in the main process.
            Followed: the same, in all others.
        """
        if self.count == 1:
            return
        for rank, found in enumerate(self._from_all(digest)):
            if found != digest:
                error = ForewordError(
                    f"process {rank} has another recipe, other data or another backbone than process 0. Every machine "
                    "must be given the same command, files and versions"
                )
                raise error if self.main else Followed

    def _reduced(self, number: float, how: distributed.ReduceOp.RedOpType) -> float:
        everyone = torch.tensor(float(number), device=self.device)
        with translated():
            distributed.all_reduce(everyone, how)
        return float(everyone)

    def _from_all(self, said: T) -> list[T]:
        everyone: list[T | None] = [None] * self.count
        with translated():
            distributed.all_gather_object(everyone, said)
        return cast(list[T], everyone)


@contextmanager
def translated() -> Iterator[None]:
    """While it lasts, what PyTorch says of a process that it cannot reach is said in our words.

    Raises:
        Lost: there is one.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise Lost(error) from error
        raise


def alone() -> Processes:
    """A run of this process only, whatever it was launched with."""
    return Processes(_state().device)


def launched() -> Processes:
    """The processes that `accelerate launch` or `torchrun` has started, which meet here; else this one alone.

    Raises:
        ForewordError: several were started, and they cannot reach one another.
    """
    state, wanted = _state(), int(os.environ.get("WORLD_SIZE", "1"))
    if "LOCAL_RANK" in os.environ and wanted != state.num_processes:
        raise ForewordError(
            f"{wanted} processes were started, but they cannot reach one another on '{state.device.type}'. On a "
            "machine without GPUs set ACCELERATE_USE_CPU=true, and make no Accelerator() before"
        )
    sharding = state.num_processes > 1 and parse_flag_from_env("ACCELERATE_USE_FSDP")
    if sharding:  # transformers would leave the weights of all but one process empty, for accelerate to fill
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    return Processes(state.device, state.num_processes, state.process_index, sharding)


def left_alone() -> str | None:
    """What to tell a user who has asked accelerate for several processes on the CPU and was given one; or None."""
    asked = parse_flag_from_env("ACCELERATE_USE_CPU") and "MASTER_ADDR" in os.environ
    if not asked or _state().num_processes > 1:
        return None
    return (
        "`accelerate launch --cpu` starts one process, however many it is asked for. The result is the same; for "
        "several say `accelerate launch --multi_gpu --num_processes N`, which takes CPUs where there is no GPU"
    )


def _state() -> PartialState:
    return PartialState(cpu=not may_use_gpu(), timeout=PATIENCE)


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in turn, so many at a time that they are not much more than `_BUCKET` numbers."""
    bucket, size = list[Tensor](), 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel()
        if size >= _BUCKET:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket
