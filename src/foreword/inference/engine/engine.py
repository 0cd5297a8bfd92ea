"""Many tasks on one frozen model: every row of a batch reads the prompt of its own task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from foreword.artifacts.format import Artifact
from foreword.backbones import Backbone
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.errors import BackboneError, ForewordError, TaskError
from foreword.inference.encoding import in_words
from foreword.inference.engine.answers import Verdict, answer_of, told, verdict_of
from foreword.inference.engine.ensembles import check_members
from foreword.inference.engine.evaluation import Evaluated
from foreword.inference.engine.forward import Row, read_rows, write_rows
from foreword.inference.engine.handles import Handle, Held, Published, References, Vote
from foreword.inference.engine.jobs import Job, encode_job, size_of
from foreword.inference.engine.loading import Loader
from foreword.inference.engine.residents import Residents, Stats
from foreword.inference.engine.room import Room, out_of_memory
from foreword.inference.engine.streaming import in_batches, in_blocks
from foreword.inference.forward import most_tokens
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
        batch_size: most rows of a batch that `predict` and `stream` make; long ones are fewer.

    Attributes:
        model: the first 12 hex digits of the digest of the backbone's weights.
        notes: what `predict` and `stream` had to do so far to make inputs fit -> how many inputs.
    """

    def __init__(
        self,
        backbone: Backbone,
        source: Registry | Mapping[str, Artifact],
        *,
        budget: int | None = None,
        bf16: bool = False,
        batch_size: int = 64,
    ) -> None:
        self.backbone, self.source, self.bf16 = backbone, source, bf16
        self._generation = backbone.generation
        self._references: References = Published(source) if isinstance(source, Registry) else Held(source)
        self._budget, self._batch_size = budget, batch_size
        self.notes: Counter[str] = Counter()
        self._residents = Residents(Loader(backbone, bf16=bf16), budget)
        self._rooms = {False: Room(), True: Room()}
        self.model = backbone.identity.weights[:12]

    def resolve(self, reference: str) -> Handle:
        """What a reference means now; nothing is loaded.

        Raises:
            UnknownReference: there is no such artifact.
        """
        return Handle.of(self._references.member(reference), self.model)

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
        return Handle.ensemble(members, self.model, vote)

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
        return self._encode(
            handle, Record(record, "<memory>", number + 1), truncate=truncate, number=number, candidates=candidates
        )

    def run(self, jobs: Sequence[Job]) -> list[dict[str, Any] | ForewordError]:
        """Answer all jobs in one forward pass, and one search for those whose answers are written.

        After a pass that there was too little memory for, later ones are smaller (`stats`), and jobs take several.

        Returns:
            Per job its answer, or why there is none. What spoils one job never spoils another: after an exception the
            jobs are tried again in halves.
        """
        return [answer_of(*one) for one in zip(jobs, self.decide(jobs), strict=True)]

    def decide(self, jobs: Sequence[Job]) -> list[Verdict | ForewordError]:
        """The predictions of all jobs, as `run` finds them before it puts them into words."""
        try:
            self.backbone.check_unchanged(self._generation)
        except BackboneError as changed:
            return [changed] * len(jobs)
        most = self._room(jobs).most
        if most is None or size_of(jobs) <= most or len(jobs) == 1:
            return self._pass(jobs)
        return in_batches(self.decide, jobs, batch_size=most, most_tokens=most)

    def predict(self, inputs: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Answer ``(reference, record)`` pairs, in order, in as few passes as there is room for.

        Raises:
            UnknownReference: no task of that name.
            ForewordError: the first thing that is wrong with an input; its place is its number.
        """
        records = (
            (reference, Record(fields, "<memory>", number))
            for number, (reference, fields) in enumerate(inputs, start=1)
        )
        return list(self._answered(records))

    def stream(
        self, records: Iterable[Record], *, candidates: int = 0, field: str = "task", first: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Answer records that name their task themselves, as they come, order kept, in bounded memory.

        A reference means to the end of the stream what it means when it comes first.

        Args:
            records: any number of them.
            candidates: how many of the best answers are listed too, for tasks that rank them.
            field: of the record, with the reference.
            first: number of the first of them, from which those get their ids that bring none.

        Raises:
            DataError: a record lacks its task, or what the task reads.
            ForewordError: whatever else is wrong with an input.
        """
        inputs = ((record.text(field), record) for record in records)
        return self._answered(inputs, candidates=candidates, first=first)

    def answer(
        self, handle: Handle, records: Iterable[Record], *, candidates: int = 0, first: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Answer records that are all for one artifact or ensemble, as they come, order kept, in bounded memory.

        Args:
            handle: who answers.
            records, candidates, first: as of `stream`.

        Raises:
            DataError: a record lacks what the task reads.
            ForewordError: whatever else is wrong with an input.
        """
        jobs = (
            self._encode(handle, record, number=number, candidates=candidates)
            for number, record in enumerate(records, start=first)
        )
        return (answer for _, answer in self._told(jobs))

    def _answered(
        self, inputs: Iterable[tuple[str, Record]], *, candidates: int = 0, first: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Answers with the names of their tasks, and the versions where there are some."""
        handles: dict[str, Handle] = {}

        def job(number: int, reference: str, record: Record) -> Job:
            if reference not in handles:
                handles[reference] = self.resolve(reference)
            return self._encode(handles[reference], record, number=number, candidates=candidates)

        jobs = (job(number, *one) for number, one in enumerate(inputs, start=first))
        for one, answer in self._told(jobs):
            version = {} if one.handle.version is None else {"version": one.handle.version}
            yield {"task": one.handle.task, **version, **answer}

    def evaluate(self, handle: Handle, data: Source) -> Evaluated:
        """Score an artifact, or an ensemble and each of its members, on labelled data.

        Args:
            handle: who answers; loaded if it is not in memory.
            data: read as its task reads it, that of the first member.

        Raises:
            DataError: naming file, line and field.
            ForewordError: whatever else is wrong with an input.
        """
        records = list(data.records())
        tasks = [self._residents.get(member).task for member in handle.members]
        examples = tasks[0].read(records, labelled=True)
        tasks[0].check_labels(records, examples)
        jobs = (self._encode(handle, record, number=number) for number, record in enumerate(records))
        return Evaluated.of(tasks, examples, [verdict for _, verdict in self._decided(jobs)])

    def _told(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Any number of jobs and their answers, in order; raises as `_decided`."""
        for job, verdict in self._decided(jobs):
            answer = answer_of(job, verdict)
            if isinstance(answer, ForewordError):
                raise answer
            yield job, answer

    def _decided(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Verdict]]:
        """Any number of jobs and their predictions, in order.

        Raises:
            ForewordError: of the first job that has none.
        """
        for block in in_blocks(jobs, self._budget):
            verdicts = in_batches(self.decide, block, self._batch_size, most_tokens(self.backbone.device))
            for job, verdict in zip(block, verdicts, strict=True):
                self.notes.update(job.notes)
                if isinstance(verdict, ForewordError):
                    raise verdict
                yield job, verdict
            del block  # and with it what its jobs hold, before more is loaded

    @property
    def warnings(self) -> list[str]:
        """What `predict` and `stream` had to do so far to make inputs fit, in words."""
        return in_words(self.notes)

    def stats(self) -> Stats:
        """What is in memory, how often something had to be read, and how large a pass may be."""
        reads, writes = self._rooms[False], self._rooms[True]
        return replace(
            self._residents.stats(),
            out_of_memory=reads.failures + writes.failures,
            most_read=reads.most,
            most_written=writes.most,
        )

    def resident(self, handle: Handle) -> bool:
        """Whether all of it is in memory."""
        return all(self._residents.has(member) for member in handle.members)

    def _encode(
        self, handle: Handle, record: Record, *, number: int, truncate: bool = True, candidates: int = 0
    ) -> Job:
        residents = tuple(self._residents.get(member) for member in handle.members)
        return encode_job(
            handle, residents, record, self.backbone, number=number, truncate=truncate, candidates=candidates
        )

    def _room(self, jobs: Sequence[Job]) -> Room:
        """A pass that writes takes more memory for the same texts, so what it needs is learned apart."""
        return self._rooms[any(job.handle.writes for job in jobs)]

    def _pass(self, jobs: Sequence[Job]) -> list[Verdict | ForewordError]:
        if not jobs:
            return []
        try:
            logits, texts = self._forward(jobs)
        except Exception as error:
            if out_of_memory(error):
                self._room(jobs).failed(size_of(jobs))
            if len(jobs) == 1:
                return [told(jobs[0], error)]
        else:
            return [verdict_of(*one) for one in zip(jobs, logits, texts, strict=True)]
        # Outside of the handler, whose traceback would hold on to the tensors of the pass that failed.
        if self.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(jobs) // 2
        return self.decide(jobs[:half]) + self.decide(jobs[half:])

    @torch.inference_mode()
    def _forward(self, jobs: Sequence[Job]) -> tuple[list[list[list[Tensor]]], list[list[Written | None]]]:
        """Per job and part, the logits of its rows, none where the answer is written; and what is written."""
        if self.backbone.training or self.backbone.model.training:  # asking all modules takes longer than a short text
            self.backbone.eval()
        parts = [part for job in jobs for part in job.parts]
        reads = [not isinstance(part.resident.task, WritingTask) for part in parts]
        rows = [Row(row, part.resident) for part, read in zip(parts, reads, strict=True) if read for row in part.rows]
        given = [Row(part.rows[0], part.resident) for part, read in zip(parts, reads, strict=True) if not read]
        device = self.backbone.device.type
        with torch.autocast(device, dtype=torch.bfloat16) if self.bf16 else nullcontext():
            logits, texts = iter(read_rows(self.backbone, rows)), iter(write_rows(self.backbone, given))
        numbers = iter([list(islice(logits, len(part.rows) * read)) for part, read in zip(parts, reads, strict=True)])
        words = iter([None if read else next(texts) for read in reads])
        return [list(islice(numbers, len(job.parts))) for job in jobs], [
            list(islice(words, len(job.parts))) for job in jobs
        ]
