"""The data of one task for one run: read, checked, encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foreword.artifacts.manifest import DataEntry
from foreword.backbones import Backbone
from foreword.data.sources import Source
from foreword.errors import DataError
from foreword.inference.encoding import EncodedSet, encode_examples
from foreword.tasks import Task
from foreword.training.settings import TrainingSettings
from foreword.training.transfer import Start, read_start


@dataclass(frozen=True)
class Prepared:
    """Checked, encoded data of one task for one run.

    Attributes:
        task: with its labels.
        train, dev: encoded examples.
        test: examples to score once in the end, None where there are none.
        entries: what the artifact will say of the data.
        start: what to begin with, None to begin afresh.
    """

    task: Task[Any, Any]
    train: EncodedSet
    dev: EncodedSet
    entries: Mapping[str, DataEntry]
    start: Start | None = None
    test: EncodedSet | None = None

    @property
    def warnings(self) -> list[str]:
        """What had to be done to make examples fit, in words."""
        return [
            f"{side}: {count} of {entry.examples} examples {note}"
            for side, entry in self.entries.items()
            for note, count in entry.notes.items()
        ]


def prepare(
    task: Task[Any, Any],
    train: Source,
    dev: Source,
    backbone: Backbone,
    settings: TrainingSettings,
    *,
    reserved: int = 0,
    test: Source | None = None,
) -> Prepared:
    """Read, check and encode all sides of the data.

    Args:
        task: what the data is for.
        train, dev: where it comes from.
        backbone: whose tokenizer is used.
        settings: of which the length limit counts, and the artifact to start from.
        reserved: positions of a row that the prompt takes (`Method.positions_taken`).
        test: what to score once in the end.

    Raises:
        DataError: naming file, line and field.
        ArtifactError: what to start from cannot be read, is of another backbone, or has another head.
    """
    start = read_start(settings, backbone)
    train_examples = task.read(train.records(), labelled=True)
    task = task.with_labels_from(train_examples).with_vocabulary(backbone)
    sources = {"train": train, "dev": dev} | ({} if test is None else {"test": test})
    examples = {side: train_examples if side == "train" else _checked(task, sources[side]) for side in sources}
    for side, found in examples.items():
        if not found:
            raise DataError(f"no {side} examples", file=_names(sources[side]))
    head = task.build_head(backbone.hidden_size, backbone)  # one that does not fit is told of before texts are encoded
    if start is not None:
        start.check_head(task, head)
    encoded = {
        side: encode_examples(task, found, backbone, settings.max_length, reserved=reserved)
        for side, found in examples.items()
    }
    for side, one in encoded.items():
        if not one.rows:
            notes = ", ".join(one.notes)
            raise DataError(
                f"no {side} examples are left: all {len(one.examples)} are {notes}", file=_names(sources[side])
            )
    entries = {
        side: DataEntry(
            files=sources[side].digests(), examples=len(one.examples), rows=len(one.rows), notes=dict(one.notes)
        )
        for side, one in encoded.items()
    }
    return Prepared(task, encoded["train"], encoded["dev"], entries, start, encoded.get("test"))


def _names(source: Source) -> str | None:
    return ", ".join(source.files) or None


def _checked(task: Task[Any, Any], source: Source) -> list[Any]:
    """Labelled examples whose labels the task knows."""
    records = list(source.records())
    examples = task.read(records, labelled=True)
    task.check_labels(records, examples)
    return examples
