"""Many tasks in one forward pass: every row gathers the prompt of its own task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from foreword.artifacts.format import Artifact
from foreword.backbones import Backbone
from foreword.data.batching import Encoded, collate
from foreword.data.sources import Source
from foreword.errors import ArtifactError
from foreword.inference.encoding import EncodedSet, encode_examples
from foreword.injection import Injection


class MixedPredictor:
    """Answers batches whose rows belong to different tasks, with one pass through one backbone.

    Args:
        backbone: the frozen model all artifacts were made for.
        artifacts: task name -> artifact. Prompts may differ in length and layers.

    Raises:
        ArtifactError: one was made for another backbone, or tuned the backbone itself.
    """

    def __init__(self, backbone: Backbone, artifacts: Mapping[str, Artifact]) -> None:
        self.backbone = backbone
        self.artifacts = dict(artifacts)
        for name, artifact in self.artifacts.items():
            artifact.check_backbone(backbone)
            if artifact.method.tunes_backbone:
                raise ArtifactError(f"{name}: a fine-tuned backbone cannot share a batch with other tasks")
        self._numbers = {name: number for number, name in enumerate(self.artifacts)}
        self._bank = [artifact.prefix or {} for artifact in self.artifacts.values()]
        self._heads = {name: a.build_head(backbone.hidden_size) for name, a in self.artifacts.items()}

    @torch.inference_mode()
    def predict(self, inputs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Answer ``(task name, record)`` pairs in one forward pass, in order.

        Raises:
            KeyError: no such task.
            DataError: a record lacks what its task reads.
        """
        encoded = [self._encode(name, item) for name, item in inputs]
        rows: list[Encoded] = [row for one in encoded for row in one.rows]
        owners = [name for (name, _), one in zip(inputs, encoded, strict=True) for _ in one.rows]
        batch = collate(rows, range(len(rows)), self.backbone.tokenizer.pad_token_id).to(self.backbone.device)
        numbers = torch.tensor([self._numbers[name] for name in owners])
        self.backbone.eval()
        hidden = self.backbone(
            batch.input_ids, batch.attention_mask, batch.token_type_ids, Injection(self._bank, numbers)
        )
        logits: list[torch.Tensor] = [torch.empty(0)] * len(rows)
        for name, head in self._heads.items():
            mine = [i for i, owner in enumerate(owners) if owner == name]
            if mine:
                for i, row in zip(mine, head(hidden[mine].float(), batch.attention_mask[mine]).cpu(), strict=True):
                    logits[i] = row[: len(rows[i])] if row.dim() == 2 else row
        answers, at = [], 0
        for (name, _), one in zip(inputs, encoded, strict=True):
            task, here = self.artifacts[name].task, slice(at, at + len(one.rows))
            at += len(one.rows)
            prediction = task.decode(one.examples[0], one.rows, logits[here])
            answers.append({"task": name, **task.to_json(one.examples[0], prediction)})
        return answers

    def _encode(self, name: str, item: Mapping[str, Any]) -> EncodedSet:
        artifact = self.artifacts[name]
        examples = artifact.task.read(Source(items=(item,)).records(), labelled=False)
        return encode_examples(artifact.task, examples, self.backbone, artifact.manifest.max_length)
