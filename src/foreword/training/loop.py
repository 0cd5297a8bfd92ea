"""The training loop: step, accumulate, clip, evaluate, keep the best, stop. It names no method and no task.

Of several tasks, each step belongs to one, and weights are selected by the mean of their main dev scores.
Source: Liu et al. 2022, section 3.3 (multi-task learning), which leaves open how tasks take turns.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from foreword.backbones import check_device, shard_layers
from foreword.data.batching import Batch, collate, padding_ratio
from foreword.errors import ForewordError
from foreword.inference.encoding import EncodedSet
from foreword.metrics.scores import Scores
from foreword.model import MultiTaskModel, PromptedModel
from foreword.tasks import Task
from foreword.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from foreword.training.evaluation import Evaluation, dev_values, evaluate, score
from foreword.training.lanes import Lane, Step, Stream
from foreword.training.mixing import Mixing
from foreword.training.processes import Processes, alone, translated
from foreword.training.schedules import rate_factor
from foreword.training.settings import TrainingSettings
from foreword.training.tracking import Tracker
from foreword.training.trunk import Trunks

T = TypeVar("T")


class Interrupted(ForewordError):  # noqa: N818  an event, not a mistake
    """The run was stopped by a signal, after its state was saved.

    Args:
        checkpoint: where, or None if the run keeps none.
        step: optimizer steps done.
    """

    code = "training.interrupted"

    def __init__(self, checkpoint: Path | None, step: int) -> None:
        self.checkpoint, self.step = checkpoint, step
        saved = f"; saved to {checkpoint}" if checkpoint else ""
        super().__init__(f"stopped after {step} steps{saved}")


class Diverged(ForewordError):  # noqa: N818  an event, not a mistake
    """The loss is no number any more."""

    code = "training.diverged"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to for one task. The model holds the best weights seen on dev.

    Attributes:
        task: with what it chose on dev (`Task.settle`).
        scores: of the best evaluation.
        predictions: of the best weights on dev, in order.
        progress: evaluations, steps, seconds.
        padding: share of padded positions in an epoch of training, in [0, 1).
        trunk_cache: its layer, rows found and computed, and bytes; None in a run without one.
    """

    task: Task[Any, Any]
    scores: Scores
    predictions: list[Any]
    progress: Progress
    padding: float
    trunk_cache: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """A batch that a run wants the gradient of: that of its loss is added to those of all that it trains.

    Attributes:
        lane: whose model and task.
        batch: on the model's device.
        share: what its mean loss counts in that of the step; those of a step add up to 1.
    """

    lane: Lane
    batch: Batch
    share: float

    def loss(self, logits: Tensor) -> Tensor:
        """Its share of the step's loss, given logits of its model for the batch."""
        return self.lane.task.loss(logits, self.batch.targets) * self.share


Course = Generator[Part, float, dict[str, Outcome]]
"""A run as it goes: it asks for the gradient of one part after another, and is told the loss of each."""


class Trainer:
    """Trains what the models of one or several tasks share, and their heads.

    Args:
        lanes: one per task.
        settings: how.
        tracker: told about every event.
        mixing: how several tasks share the steps.
        checkpoint: file to keep the run's state in, or None to keep none.
        recipe: digest of recipe and data, to refuse a foreign checkpoint.
        processes: that train it together; this one alone if None.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        settings: TrainingSettings,
        *,
        tracker: Tracker,
        mixing: Mixing | None = None,
        checkpoint: Path | None = None,
        recipe: str = "",
        processes: Processes | None = None,
    ) -> None:
        self.lanes, self.settings, self.tracker = list(lanes), settings, tracker
        self.checkpoint, self.recipe = checkpoint, recipe
        self.processes = processes or alone()
        self.stream = Stream(lanes, settings, mixing or Mixing())
        self.models = models = MultiTaskModel({lane.name: lane.model for lane in lanes})
        check_device(models.backbone.name, models.backbone.quantization, self.processes.device)
        if self.processes.sharding:
            shard_layers(models.backbone, self.processes.mesh)
        models.to(self.processes.device)
        self.processes.align(p for _, p in models.trainable())
        models.backbone.regularize(hidden=settings.backbone_dropout, attention=settings.attention_dropout)
        models.backbone.gradient_checkpointing(settings.gradient_checkpointing)
        self.trunks = Trunks(models.models, settings)
        self.optimizer = torch.optim.AdamW(parameter_groups(models, settings), fused=True)
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        self._stop = False

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch: of a single task, one pass over its data."""
        return self.stream.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run, if it is not stopped early."""
        return self.steps_per_epoch * self.settings.epochs

    def resume(self) -> None:
        """Take up a run where its checkpoint left it.

        Raises:
            CheckpointError: there is none, or it is not this run's.
        """
        if self.checkpoint is None:
            raise ValueError("this trainer keeps no checkpoint")
        path = self.checkpoint
        found = self.processes.led(lambda: load_checkpoint(path, self.recipe))
        self.models.load_state(found.group("state"))
        self.best = found.group("best") or None
        found.restore_optimizer(self.optimizer)
        self.progress = found.progress
        found.restore_random()

    def fit(self) -> dict[str, Outcome]:
        """Train to the end or until it stops getting better; leave the best weights in the models.

        Returns:
            What came of every task.

        Raises:
            Interrupted: on SIGINT or SIGTERM, after the state was saved.
            Diverged: the loss is no number any more.
            Exception: whatever the tracker raised to end the run.
        """
        with stopping([self]), translated():
            return self.follow(self.course())

    def follow(self, course: Generator[Part, float, T]) -> T:
        """Go through a course, or a piece of one, alone."""
        try:
            part = next(course)
            while True:
                part = course.send(self.add_gradient(part))
        except StopIteration as end:
            result: T = end.value
            return result

    def add_gradient(self, part: Part) -> float:
        """Forward and backward pass of one part; its share of the loss."""
        part.lane.model.train()
        with self.precision():
            logits = part.lane.model(part.batch)
        loss = part.loss(logits)
        torch.autograd.backward(loss)
        return loss.item()

    def stop(self) -> None:
        """Finish the step in progress, save, and end with `Interrupted`.

        Raises:
            KeyboardInterrupt: it was asked before, so the step is not waited for.
        """
        if self._stop:
            raise KeyboardInterrupt
        self._stop = True

    def course(self) -> Course:
        """The run but for the forward and backward passes, which whoever goes through it takes; ends as `fit` does."""
        rows = sum(len(lane.train.rows) for lane in self.lanes)
        start = {"steps": self.total_steps, "rows": rows, "resumed_at": self.progress.step}
        self.tracker.event("start", self.progress.step, start)
        while self.progress.epoch < self.settings.epochs and not self._stale:
            yield from self._epoch()
        if self.best is not None:
            self.models.load_state(self.best)
        found = self.evaluate()
        times = {"best_step": self.progress.best_step, "seconds": self.progress.seconds}
        end = {**dev_values(found), **times, **self.trunks.values}
        self.tracker.event("end", self.progress.step, end)
        return {lane.name: self._outcome(lane, found[lane.name]) for lane in self.lanes}

    def _outcome(self, lane: Lane, found: Evaluation) -> Outcome:
        batches = lane.batches(self.settings, 0)
        computed = [piece for batch in batches for piece in lane.pieces(batch, self.most_tokens)]
        padding = padding_ratio(lane.train.lengths, computed)
        return Outcome(*found, progress=self.progress, padding=padding, trunk_cache=self.trunks.facts)

    @property
    def _stale(self) -> bool:
        patience = self.settings.early_stopping_patience
        return patience is not None and self.progress.stale >= patience

    def _epoch(self) -> Generator[Part, float]:
        progress = self.progress
        steps = self.stream.epoch(progress.epoch)
        for step in steps[progress.step - progress.epoch * len(steps) :]:
            yield from self._step(step)
            over = progress.step % len(steps) == 0
            progress.epoch += over
            every = self.settings.evaluate_every_steps
            if (progress.step % every == 0 or self._finished) if every else over:
                self._evaluate_and_save()
            if self.processes.total(self._stop):
                self._save()
                raise Interrupted(self.checkpoint, progress.step)
            if self._stale:
                return

    @property
    def _finished(self) -> bool:
        return self.progress.epoch >= self.settings.epochs

    def _step(self, step: Step) -> Generator[Part, float]:
        """One optimizer step. Heads of other tasks have no gradient in it, so they stay as they are."""
        began = time.perf_counter()
        lane = step.lane
        factor = rate_factor(self.settings, self.progress.step, self.total_steps, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor
        self.processes.seed(self.settings.seed, self.progress.step)
        parts = [self._part(lane, rows) for whole in step.parts for rows in lane.pieces(whole, self.most_tokens)]
        # Means over the parts are weighted by the targets in them, so that parts and processes make no difference.
        everywhere = self.processes.total(sum(count for _, count in parts))
        total = 0.0
        for batch, count in parts:
            total += yield Part(lane, batch, count / max(everywhere, 1))
        trained = [parameter for _, parameter in self.models.trainable()]
        total = self.processes.add_up(trained, total)
        if not math.isfinite(total):
            raise Diverged(
                f"the loss is {total} at step {self.progress.step}. Lower training.learning_rate, or use "
                "training.precision = 'float32'"
            )
        if self.settings.max_grad_norm > 0:
            nn.utils.clip_grad_norm_(trained, self.settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(len(lane.train.rows[i]) for rows in step.parts for i in rows)
        self._account(lane, total, tokens, time.perf_counter() - began, factor)

    @property
    def most_tokens(self) -> int | None:
        """Positions that all processes together compute at once; None for all of a batch."""
        most = self.settings.most_tokens(self.processes.device)
        return None if most is None else most * self.processes.count

    @property
    def _bf16(self) -> bool:
        return self.settings.precision == "bf16"

    def precision(self) -> torch.autocast:
        """While it lasts, what is computed is computed as the settings say."""
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16, enabled=self._bf16)

    def _part(self, lane: Lane, rows: list[int]) -> tuple[Batch, int]:
        """This process's share of some rows, and how many targets count in it."""
        units = lane.units_of(rows)
        own = self.processes.share(units)
        # Left without any, it keeps step with the others and counts nothing.
        chosen = [row for unit in own or units[:1] for row in unit]
        batch = collate(lane.train.rows, chosen, self.models.backbone.tokenizer.pad_token_id)
        return batch.to(self.processes.device), lane.task.weight(batch.targets) if own else 0

    def _account(self, lane: Lane, loss: float, tokens: int, seconds: float, factor: float) -> None:
        progress = self.progress
        progress.step += 1
        progress.tokens += tokens
        progress.seconds += seconds
        progress.loss_sum += loss
        progress.loss_count += 1
        values = {
            "loss": loss,
            "rate": self.base_rates[0] * factor,
            "tokens_per_second": progress.tokens / progress.seconds,
            "epoch": progress.epoch,
            **({"task": lane.name} if len(self.lanes) > 1 else {}),
        }
        self.tracker.event("step", progress.step, values)

    def evaluate(self, *, selecting: bool = False) -> dict[str, Evaluation]:
        """Score the models as they are on dev, with what each task chooses there.

        Args:
            selecting: whether only what weights are selected by is wanted.
        """
        return {lane.name: evaluate(lane, self.processes, bf16=self._bf16, selecting=selecting) for lane in self.lanes}

    def score(self, lane: Lane, encoded: EncodedSet, task: Task[Any, Any]) -> Scores:
        """Score a model as it is on other examples, with what ``task`` has chosen on dev."""
        return score(lane, encoded, task, self.processes, bf16=self._bf16)

    def _evaluate_and_save(self) -> None:
        progress = self.progress
        began = time.perf_counter()
        values = dev_values(self.evaluate(selecting=True))
        value = values[values["main"]]
        progress.seconds += time.perf_counter() - began
        better = progress.best_value is None or value > progress.best_value
        if better:
            progress.best_value, progress.best_step, progress.stale = value, progress.step, 0
            self.best = self.models.state()
        else:
            progress.stale += 1
        entry = {
            "epoch": progress.epoch,
            "train_loss": progress.loss_sum / max(progress.loss_count, 1),
            **values,
            "best": better,
            "seconds": progress.seconds,
        }
        progress.loss_sum, progress.loss_count = 0.0, 0
        progress.evaluations.append({"step": progress.step, **entry})
        self.tracker.event("evaluation", progress.step, {**entry, **self.trunks.values})
        self._save()

    def _save(self) -> None:
        if self.checkpoint is not None and self.processes.main:
            save_checkpoint(
                self.checkpoint,
                recipe=self.recipe,
                progress=self.progress,
                state=self.models.state(),
                best=self.best,
                optimizer=self.optimizer,
            )


@contextmanager
def stopping(trainers: Sequence[Trainer]) -> Iterator[None]:
    """While it lasts, Ctrl-C or a polite kill asks runs to stop (`Trainer.stop`)."""

    def ask_to_stop(number: int, frame: object) -> None:
        del number, frame
        for trainer in trainers:
            trainer.stop()

    try:
        before = {s: signal.signal(s, ask_to_stop) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread (a notebook's worker): signals are not ours to take
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parameter_groups(model: PromptedModel | MultiTaskModel, settings: TrainingSettings) -> list[dict[str, Any]]:
    """AdamW groups: what the method trains at its rate, the head at its own.

    Biases and normalization weights are not decayed, and neither is a prompt.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.trainable():
        part = name.split(".", 1)[0]
        chosen = settings.learning_rate
        lr = settings.head_learning_rate if part == "head" else model.method.learning_rate_of(name, chosen)
        decay = settings.weight_decay if part != "prompt" and parameter.dim() > 1 else 0.0
        groups.setdefault((lr, decay), []).append(parameter)
    # The method's own group first: its rate is the one shown while training.
    ordered = sorted(groups.items(), key=lambda item: item[0][0] == settings.head_learning_rate)
    return [{"params": params, "lr": lr, "weight_decay": decay} for (lr, decay), params in ordered]
