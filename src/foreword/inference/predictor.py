"""Text in, answers out: one artifact, one task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from foreword.artifacts.format import Artifact, load_artifact
from foreword.backbones import Backbone, device_named, load_backbone
from foreword.caching import BUDGET, Place, open_store
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.inference.encoding import EncodedSet, encode_examples, in_words
from foreword.inference.forward import predict_encoded
from foreword.inference.trunk import make_trunk_cache
from foreword.metrics.scores import Scores


class Predictor:
    """A trained prompt, ready to answer.

    Args:
        artifact: read and checked.
        backbone: to use; loaded by the name in the artifact if None. A tuned backbone's weights
            replace those of the one given.
        batch_size: rows per forward pass.
        trunk_cache: "memory" or "disk", to keep what the layers below the prompt make of each text
            (`foreword.backbones.trunk`); for texts that come again.
        trunk_cache_bytes: most bytes of it.
        device: where to load the backbone, if none is given; the GPU of this machine, if it has one, when left out.

    Raises:
        MethodError: a trunk cache is asked for, and there can be none.
        BackboneError: there is no such device, or the backbone is rounded in a way that it cannot compute.
    """

    def __init__(
        self,
        artifact: Artifact,
        backbone: Backbone | None = None,
        batch_size: int = 32,
        *,
        trunk_cache: Place | None = None,
        trunk_cache_bytes: int = BUDGET,
        device: str | None = None,
    ) -> None:
        self.artifact = artifact
        self.task = artifact.task
        self.backbone = backbone or backbone_of(artifact, device=device)
        self.model = artifact.build_model(self.backbone)
        if trunk_cache is not None:
            self.model.trunk = make_trunk_cache(self.model, open_store(trunk_cache, trunk_cache_bytes))
        self.batch_size = batch_size
        self.notes: Counter[str] = Counter()

    @property
    def warnings(self) -> list[str]:
        """What had to be done so far to make inputs fit, and where the backbone is rounded otherwise, in words."""
        return [*rounded_otherwise(self.artifact, self.backbone), *in_words(self.notes)]

    def predict(self, inputs: Iterable[Mapping[str, Any]], *, candidates: int = 0) -> list[dict[str, Any]]:
        """Answer every input, in order.

        Args:
            inputs: dictionaries with the fields the task reads, such as ``{"text": ...}``.
            candidates: list so many of the best answers as well, under "candidates".
        """
        return list(self.stream(Source(items=tuple(inputs)).records(), candidates=candidates))

    def stream(
        self, records: Iterable[Record], chunk: int = 256, *, candidates: int = 0, first: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Answer records as they come, ``chunk`` at a time, order kept; ``first`` is the number of the first one.

        Raises:
            DataError: a record lacks what the task reads.
            TaskError: candidates are wanted of a task that has none.
        """
        waiting = iter(records)
        count = first
        while block := list(islice(waiting, chunk)):
            examples = self.task.read(block, labelled=False, first=count)
            count += len(block)
            encoded = self._encode(examples)
            self.notes += encoded.notes
            predictions = predict_encoded(self.model, self.task, encoded, batch_size=self.batch_size)
            for example, prediction in zip(examples, predictions, strict=True):
                yield self.task.told(example, prediction, candidates)

    def evaluate(self, data: Source) -> Scores:
        """The task's metric on labelled data.

        Raises:
            DataError: naming file, line and field.
        """
        records = list(data.records())
        examples = self.task.read(records, labelled=True)
        self.task.check_labels(records, examples)
        encoded = self._encode(examples)
        self.notes += encoded.notes
        predictions = predict_encoded(self.model, self.task, encoded, batch_size=self.batch_size)
        return self.task.score(examples, predictions)

    def _encode(self, examples: Sequence[Any]) -> EncodedSet:
        limit, reserved = self.artifact.manifest.max_length, self.artifact.method.positions_taken
        return encode_examples(self.task, examples, self.backbone, limit, reserved=reserved)


def rounded_otherwise(artifact: Artifact, backbone: Backbone) -> list[str]:
    """That an artifact was trained on a backbone that is rounded in another way, in words; nothing where it is not."""
    ours, theirs = (entry.quantization or "none" for entry in (artifact.manifest.backbone, backbone))
    told = f"trained on a backbone with quantization '{ours}', used on one with '{theirs}': evaluate it there"
    return [told] if ours != theirs else []


def backbone_of(artifact: Artifact, *, device: str | None = None) -> Backbone:
    """The backbone that an artifact was made for, loaded by the name in it.

    Args:
        artifact: read and checked.
        device: where to; the GPU of this machine, if it has one, when left out.

    Raises:
        BackboneError: it cannot be loaded, or not there.
    """
    entry = artifact.manifest.backbone
    return load_backbone(
        entry.name,
        revision=entry.revision,
        dtype=getattr(torch, entry.dtype),
        device=device_named(device, entry.quantization),
        language_model=entry.language_model is not None,
        quantization=entry.quantization,
    )


def load(path: str | Path, backbone: Backbone | None = None, *, device: str | None = None) -> Predictor:
    """A predictor from an artifact's folder.

    Args:
        path: the artifact, or the folder of the run that made it.
        backbone: shared with other predictors; loaded by name if None.
        device: where to load it then, such as 'cpu'; the GPU of this machine, if it has one, when left out.

    Raises:
        ArtifactError: damaged, altered, or made for another backbone.
        BackboneError: the backbone cannot be loaded, or not there.
    """
    return Predictor(load_artifact(path), backbone, device=device)
