"""Tiny language models that learn to write, and what they learn it from."""

from __future__ import annotations

from typing import Any

import foreword as fw
from foreword.backbones import Backbone
from foreword.data.examples import SourceExample
from foreword.data.records import Record
from foreword.inference.encoding import EncodedSet, encode_examples
from foreword.methods import Method
from foreword.tasks import Task
from foreword.training.run import TrainedRun
from tiny import tiny_backbone

FAMILIES = ("gpt2", "llama", "t5", "bart")
METHODS: dict[str, Method] = {
    "prefix-tuning": fw.PrefixTuning(prompt_length=3, mlp_hidden=8),
    "ptuning-v2": fw.PTuningV2(prompt_length=4, dropout=0),
    "prompt-tuning": fw.PromptTuning(prompt_length=4),
    "lora": fw.LoRA(r=4),
    "fine-tuning": fw.FineTuning(),
}
SHORT = fw.Generation(decoding=fw.Generation().decoding.model_copy(update={"max_new_tokens": 12, "num_beams": 1}))
DATA: list[dict[str, Any]] = [
    {"source": f"name : {who} | area : {where}", "target": [f"{who} visited {where}.", f"{who} likes {where}."]}
    for who in ("Anna", "Peter", "my sister")
    for where in ("London", "Germany")
]
EXAMPLE = SourceExample(id="0", source="Anna visited London", targets=("It is good.",))


def writer(family: str) -> Backbone:
    """A fresh tiny language model."""
    return tiny_backbone(family, language_model=True)


def encoded(
    task: Task[Any, Any], backbone: Backbone, items: list[dict[str, Any]] = DATA, max_length: int | None = None
) -> EncodedSet:
    """Labelled items as rows."""
    records = [Record(item, "tiny", number) for number, item in enumerate(items)]
    return encode_examples(task, task.read(records, labelled=True), backbone, max_length)


def train(
    family: str, method: str, task: Task[Any, Any] = SHORT, data: list[dict[str, Any]] = DATA, **training: Any
) -> TrainedRun:
    """A short run on a fresh model; ``training`` are fields of `TrainingSettings`."""
    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, **training}
    return fw.train(writer(family), METHODS[method], task, train=data, dev=data, progress=False, **settings)
