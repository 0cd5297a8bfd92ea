"""Many tasks on one frozen model: every row of a batch reads the prompt of its own task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from foreword.artifacts.format import Artifact
from foreword.backbones import Backbone
from foreword.data.records import Record
from foreword.errors import ArtifactError, BackboneError, EngineError, ForewordError, TaskError
from foreword.inference.engine.ensembles import check_members, vote_of
from foreword.inference.engine.forward import Row, read_rows, write_rows
from foreword.inference.engine.handles import Handle, Held, Member, Published, References, Vote
from foreword.inference.engine.jobs import Job, Part, encode_job, record_of
from foreword.inference.engine.residents import Resident, Residents, Stats
from foreword.injection import Mixture, Prompt
from foreword.methods import single
from foreword.registry import Registry
from foreword.tasks import WritingTask, Written


class Engine:
    """Answers rows of different tasks, prompt lengths and heads with one pass through one backbone.

    `run` is called from one thread at a time; everything else from any.

    Args:
        backbone: the frozen model that all artifacts were made for.
        source: a registry, or artifacts by name.
        budget: bytes of prompts and heads that may stay in memory; None without a limit.
        bf16: whether to compute in bfloat16.
    """

    def __init__(
        self,
        backbone: Backbone,
        source: Registry | Mapping[str, Artifact],
        *,
        budget: int | None = None,
        bf16: bool = False,
    ) -> None:
        self.backbone, self.source, self.bf16 = backbone, source, bf16
        self._generation = backbone.generation
        self._references: References = Published(source) if isinstance(source, Registry) else Held(source)
        self._residents = Residents(self._ready, budget)
        self._model = backbone.identity.weights[:12]

    def resolve(self, reference: str) -> Handle:
        """What a reference means now; nothing is loaded.

        Raises:
            UnknownReference: there is no such artifact.
        """
        return Handle.of(self._references.member(reference), self._model)

    def ensemble(self, references: Sequence[str], vote: Vote = "mean") -> Handle:
        """Several artifacts of one kind of task that answer together, in one pass.

        Args:
            references: at least one; the same artifact may come twice.
            vote: whether the 'mean' of their probabilities decides, or the 'majority' of their answers.

        Raises:
            UnknownReference: one of them does not exist.
            TaskError: they are of different kinds or have different labels, or written answers are to be averaged.
        """
        if not references:
            raise TaskError("an ensemble has at least one member")
        members = tuple(self._references.member(reference) for reference in references)
        check_members(members, vote)
        return Handle.ensemble(members, self._model, vote)

    def load(self, handle: Handle) -> None:
        """Bring an artifact, or all members of an ensemble, into memory.

        Raises:
            ArtifactError: it is damaged, or does not fit the backbone.
        """
        for member in handle.members:
            self._residents.get(member)

    def encode(
        self,
        handle: Handle,
        record: Mapping[str, Any],
        *,
        truncate: bool = True,
        number: int = 0,
        candidates: int = 0,
    ) -> Job:
        """One input as rows, without a forward pass.

        Args:
            handle: who is to answer; loaded if it is not in memory.
            record: fields that its task reads.
            truncate: whether a text that is too long may be cut.
            number: of the input, which is its id where it brings none.
            candidates: how many of the best answers are listed too, for tasks that rank them.

        Raises:
            ArtifactError: the artifact is damaged, or does not fit the backbone.
            DataError: the record lacks what the task reads.
            TooLongError: it is too long and may not be cut.
            TaskError: the members of an ensemble read it differently.
        """
        return self._encode(handle, record_of(record, number), truncate=truncate, number=number, candidates=candidates)

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any] | ForewordError]:
        """Answer all jobs in one forward pass, and one search for those whose answers are written.

        Returns:
            Per job its answer, or why there is none. What spoils one job never spoils another: after an exception,
            such as too little memory, the jobs are tried again in halves.
        """
        if not jobs:
            return []
        try:
            self._check_weights()
            logits, texts = self._forward(jobs)
        except Exception as error:
            if len(jobs) > 1:
                if self.backbone.device.type == "cuda":
                    torch.cuda.empty_cache()
                half = len(jobs) // 2
                return self.run(jobs[:half]) + self.run(jobs[half:])
            return [_told(jobs[0], error)]
        return [_answered(*one) for one in zip(jobs, logits, texts, strict=True)]

    def predict(self, inputs: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Answer ``(reference, record)`` pairs, in order.

        Raises:
            UnknownReference: no task of that name.
            ForewordError: the first thing that is wrong with an input; its place is its number.
        """
        jobs = [
            self.encode(self.resolve(reference), record, number=number)
            for number, (reference, record) in enumerate(inputs)
        ]
        answers = []
        for job, answer in zip(jobs, self.run(jobs), strict=True):
            if isinstance(answer, ForewordError):
                raise answer
            answers.append({"task": job.handle.task, **answer})
        return answers

    def stats(self) -> Stats:
        """What is in memory, and how often something had to be read."""
        return self._residents.stats()

    def resident(self, handle: Handle) -> bool:
        """Whether all of it is in memory."""
        return all(self._residents.has(member) for member in handle.members)

    def _encode(self, handle: Handle, record: Record, *, truncate: bool, number: int, candidates: int) -> Job:
        residents = tuple(self._residents.get(member) for member in handle.members)
        return encode_job(
            handle, residents, record, self.backbone, number=number, truncate=truncate, candidates=candidates
        )

    @torch.inference_mode()
    def _forward(self, jobs: Sequence[Job]) -> tuple[list[list[list[Tensor]]], list[list[Written | None]]]:
        """Per job and member, the logits of its rows, none where the answer is written; and what is written."""
        self.backbone.eval()
        parts = [part for job in jobs for part in job.parts]
        reads = [not isinstance(part.resident.task, WritingTask) for part in parts]
        rows = [Row(row, part.resident) for part, read in zip(parts, reads, strict=True) if read for row in part.rows]
        given = [Row(part.rows[0], part.resident) for part, read in zip(parts, reads, strict=True) if not read]
        device = self.backbone.device.type
        with torch.autocast(device, dtype=torch.bfloat16) if self.bf16 else nullcontext():
            logits, texts = iter(read_rows(self.backbone, rows)), iter(write_rows(self.backbone, given))
        found = iter(
            [([next(logits) for _ in part.rows], None) if read else ([], next(texts))]
            for part, read in zip(parts, reads, strict=True)
        )
        pairs = [[pair for _ in job.parts for pair in next(found)] for job in jobs]
        return [[one for one, _ in job] for job in pairs], [[text for _, text in job] for job in pairs]

    def _ready(self, member: Member) -> Resident:
        """Read an artifact and make it ready."""
        try:
            artifact = member.open()
            artifact.check_backbone(self.backbone)
            if artifact.method.tunes_backbone or artifact.method.attaches:
                raise ArtifactError(
                    f"{member.known_as}: '{artifact.method.name}' changes the backbone itself, which cannot share a "
                    "batch with other tasks. Load it on its own (foreword.load)"
                )
            prompt = artifact.prompt or Prompt()
            if isinstance(artifact.task, WritingTask):
                single(prompt)
            device, dtype = self.backbone.device, self.backbone.model.dtype
            ready = prompt.map(lambda tensor: tensor.to(device, dtype))
            mixed = isinstance(ready, Mixture)
            prompts = ready.prompts if isinstance(ready, Mixture) else (ready,)
            head = artifact.build_head(self.backbone).to(device).requires_grad_(False)
        except ForewordError:
            raise
        except Exception as error:
            raise ArtifactError(f"{member.known_as}: cannot be loaded ({type(error).__name__})") from error
        tensors = [*head.state_dict().values()]
        for one in prompts:
            one.map(lambda tensor: (tensors.append(tensor), tensor)[1])
        return Resident(
            member,
            artifact.task,
            prompts,
            prompt.log_weights.to(device) if mixed else None,
            head,
            artifact.method.positions_taken,
            sum(tensor.nbytes for tensor in tensors),
        )

    def _check_weights(self) -> None:
        if self.backbone.generation != self._generation:
            raise BackboneError(
                f"{self.backbone.name}: its weights were changed by another model since this engine was made on it. "
                "Load a backbone of its own for each model that tunes one"
            )


def _answered(
    job: Job, logits: Sequence[Sequence[Tensor]], texts: Sequence[Written | None]
) -> dict[str, Any] | ForewordError:
    """The answer to one job; whatever goes wrong here is its own matter."""
    try:
        if not all(bool(torch.isfinite(row).all()) for rows in logits for row in rows):
            raise EngineError(f"{job.handle.task}: the model's numbers for this input are not finite")
        predictions = [_prediction(*one) for one in zip(job.parts, logits, texts, strict=True)]
        if job.handle.vote is None:
            return _told_as(job.parts[0], predictions[0], job.candidates)
        prediction, agreement = vote_of(job.handle, job.parts, logits, predictions)
        members = [
            {"task": member.task, "version": member.version, "digest": member.digest, "answer": answer}
            for member, answer in zip(
                job.handle.members,
                [_told_as(part, one, job.candidates) for part, one in zip(job.parts, predictions, strict=True)],
                strict=True,
            )
        ]
        answer = _told_as(job.parts[0], prediction, job.candidates)
    except Exception as error:
        return _told(job, error)
    return {**answer, "agreement": agreement, "members": members}


def _prediction(part: Part, logits: Sequence[Tensor], text: Written | None) -> Any:
    task = part.resident.task
    prediction = task.decode(part.example, part.rows, logits)
    if isinstance(task, WritingTask):
        assert text is not None
        return task.with_text(part.example, prediction, text)
    return prediction


def _told_as(part: Part, prediction: Any, candidates: int) -> dict[str, Any]:
    task = part.resident.task
    answer = task.to_json(part.example, prediction)
    if candidates:
        answer["candidates"] = task.candidates(part.example, prediction)[:candidates]
    return answer


def _told(job: Job, error: Exception) -> ForewordError:
    """An error as one of ours, without anything of the input in it."""
    if isinstance(error, ForewordError):
        return error
    told = EngineError(f"{job.handle.task}: no answer could be made of this input ({type(error).__name__})")
    told.__cause__ = error
    return told
