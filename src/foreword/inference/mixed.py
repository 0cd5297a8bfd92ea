"""Many tasks in one forward pass, or one search for texts: every row gathers the prompt of its own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from foreword.artifacts.format import Artifact
from foreword.backbones import Backbone, generate
from foreword.data.batching import Encoded, collate
from foreword.data.records import Record
from foreword.errors import ArtifactError, BackboneError, ForewordError
from foreword.inference.encoding import EncodedSet, encode_examples
from foreword.inference.writing import settings_of, texts_of
from foreword.injection import Injection, Mixture, Prompt
from foreword.methods import single
from foreword.model import head_logits, mix
from foreword.tasks import WritingTask, Written


class MixedPredictor:
    """Answers batches whose rows belong to different tasks, with one pass through one backbone.

    Args:
        backbone: the frozen model all artifacts were made for.
        artifacts: task name -> artifact. Prompts may differ in length and layers.

    Raises:
        ArtifactError: one was made for another backbone, or changes the backbone itself.
        MethodError: one has a mixture of prompts, and answers that are written.
    """

    def __init__(self, backbone: Backbone, artifacts: Mapping[str, Artifact]) -> None:
        self.backbone = backbone
        self.artifacts = dict(artifacts)
        for name, artifact in self.artifacts.items():
            artifact.check_backbone(backbone)
            if artifact.method.tunes_backbone or artifact.method.attaches:
                raise ArtifactError(
                    f"{name}: '{artifact.method.name}' changes the backbone itself, which cannot share a batch with "
                    "other tasks. Load it on its own (foreword.load)"
                )
            if isinstance(artifact.task, WritingTask) and artifact.prompt is not None:
                single(artifact.prompt)
        self._generation = backbone.generation
        self._prompts = {
            name: (artifact.prompt or Prompt()).map(lambda tensor: tensor.to(backbone.device))
            for name, artifact in self.artifacts.items()
        }
        self._bank: list[Prompt] = []
        self._numbers: dict[str, range] = {}
        """Which prompts of the bank a task's rows read: one, or those of a mixture."""
        for name, prompt in self._prompts.items():
            own = prompt.prompts if isinstance(prompt, Mixture) else (prompt,)
            self._numbers[name] = range(len(self._bank), len(self._bank) + len(own))
            self._bank += own
        self._heads = {
            name: artifact.build_head(backbone).to(backbone.device) for name, artifact in self.artifacts.items()
        }

    @torch.inference_mode()
    def predict(self, inputs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Answer ``(task name, record)`` pairs in one forward pass, in order; answers that are written, in one search.

        Raises:
            ForewordError: no task of that name.
            DataError: a record lacks what its task reads; its place is its number in ``inputs``.
        """
        encoded = [self._encode(name, item, number) for number, (name, item) in enumerate(inputs)]
        owners = [name for (name, _), one in zip(inputs, encoded, strict=True) for _ in one.rows]
        rows = [row for one in encoded for row in one.rows]
        reads = [i for i, owner in enumerate(owners) if not isinstance(self.artifacts[owner].task, WritingTask)]
        logits = iter(self._logits([rows[i] for i in reads], [owners[i] for i in reads]))
        texts = iter(self._texts(rows, owners))
        answers = []
        for (name, _), one in zip(inputs, encoded, strict=True):
            task, (example,) = self.artifacts[name].task, one.examples
            if isinstance(task, WritingTask):
                prediction = task.with_text(example, task.decode(example, one.rows, ()), next(texts))
            else:
                prediction = task.decode(example, one.rows, list(islice(logits, len(one.rows))))
            answers.append({"task": name, **task.to_json(example, prediction)})
        return answers

    def _encode(self, name: str, item: Mapping[str, Any], number: int) -> EncodedSet:
        if name not in self.artifacts:
            raise ForewordError(f"no task '{name}' here; there are: {', '.join(self.artifacts) or 'none'}")
        artifact, record = self.artifacts[name], Record(item, "<memory>", number + 1)
        examples = artifact.task.read([record], labelled=False, first=number)
        return encode_examples(
            artifact.task,
            examples,
            self.backbone,
            artifact.manifest.max_length,
            reserved=artifact.method.positions_taken,
        )

    def _logits(self, rows: Sequence[Encoded], owners: Sequence[str]) -> list[Tensor]:
        """Logits of every row, from the head of its own task, out of one forward pass."""
        if not rows:
            return []
        self._check_weights()
        # A row stands in the batch once for each prompt that reads it.
        places = [(i, number) for i, name in enumerate(owners) for number in self._numbers[name]]
        batch = collate(rows, [i for i, _ in places], self.backbone.tokenizer.pad_token_id).to(self.backbone.device)
        injection = Injection(self._bank, torch.tensor([number for _, number in places]))
        self.backbone.eval()
        texts = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
        deep = any(self._heads[name].every_layer for name in owners)
        hidden = self.backbone(*texts, injection, every_layer=deep)
        logits: list[Tensor] = [torch.empty(0)] * len(rows)
        for name, head in self._heads.items():
            mine = [place for place, (_, number) in enumerate(places) if number in self._numbers[name]]
            if mine:
                ids, mask, prompt = batch.input_ids[mine], batch.attention_mask[mine], self._prompts[name]
                marks = None if batch.marks is None else batch.marks[mine]
                answers = head_logits(head, self.backbone, hidden[mine], ids, mask, marks=marks)
                if isinstance(prompt, Mixture):
                    answers = mix(answers, prompt.log_weights, head.class_axis)
                own = [i for i, owner in enumerate(owners) if owner == name]
                for i, row in zip(own, answers.float().cpu(), strict=True):
                    logits[i] = row[: len(rows[i])] if row.dim() == 2 else row
        return logits

    def _texts(self, rows: Sequence[Encoded], owners: Sequence[str]) -> list[Written]:
        """What is written for each row of the tasks that write, in order; one search for all that search alike."""
        alike: dict[tuple[tuple[str, Any], ...], list[int]] = {}
        for i, owner in enumerate(owners):
            task = self.artifacts[owner].task
            if isinstance(task, WritingTask):
                alike.setdefault(tuple(settings_of(task, self.backbone).items()), []).append(i)
        found: dict[int, Written] = {}
        for settings, numbers in alike.items():
            self._check_weights()
            batch = collate(rows, numbers, self.backbone.tokenizer.pad_token_id).to(self.backbone.device)
            injection = Injection(self._bank, torch.tensor([self._numbers[owners[i]].start for i in numbers]))
            ids = generate(self.backbone, batch.input_ids, batch.attention_mask, injection, **dict(settings))
            found.update(zip(numbers, texts_of(ids, self.backbone.tokenizer), strict=True))
        return [found[i] for i in sorted(found)]

    def _check_weights(self) -> None:
        if self.backbone.generation != self._generation:
            raise BackboneError(
                f"{self.backbone.name}: its weights were changed by another model since this predictor was made on "
                "it. Load a backbone of its own for each model that tunes one"
            )
