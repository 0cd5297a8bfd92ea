"""Small real training runs: tiny data for every task, and a tracker that remembers."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from foreword.backbones import Backbone
from foreword.data.records import Record
from foreword.inference.encoding import EncodedSet, encode_examples
from foreword.methods import Method, PTuningV2
from foreword.model import PromptedModel
from foreword.tasks import (
    NER,
    QA,
    SRL,
    Classification,
    MultiLabel,
    MultipleChoice,
    MultiRC,
    Probing,
    ReCoRD,
    Regression,
    SpanClassification,
    Task,
)
from foreword.training.lanes import Lane
from foreword.training.loop import Outcome, Trainer
from foreword.training.processes import Processes
from foreword.training.settings import TrainingSettings
from tiny import tiny_backbone

_PEOPLE, _PLACES = ("Anna", "Peter", "my sister"), ("London", "Germany")
_DOINGS = ("visited", "has never seen", "was reading about", "would gladly recommend")


def _facts(count: int) -> list[tuple[list[str], list[str], str]]:
    """Words, tags and a label of random sentences of different lengths."""
    generator, facts = random.Random(count), []
    for _ in range(count):
        who = generator.choice(_PEOPLE).split()
        doing = " ".join(generator.sample(_DOINGS, generator.randint(1, 3))).split()
        where = generator.choice(_PLACES)
        tags = ["B-PER", *["I-PER"] * (len(who) - 1), *["O"] * len(doing), "B-LOC"]
        facts.append(([*who, *doing, where], tags, where))
    return facts


def _record(name: str, words: list[str], tags: list[str], place: str) -> dict[str, Any]:
    text, right = " ".join(words), len(words) % 2
    at = text.index(place)
    question = {"question": "Is it good?", "answers": [{"text": place, "label": int(place == "London")}]}
    query = {"query": "It is in @placeholder.", "answers": [{"text": place}]}
    entity = {"start": at, "end": at + len(place) - 1}
    choices = ["nobody", f"nobody visited {place}", "nobody wrote a letter"][: 1 + len(words) % 3]
    return {
        "classification": {"text": text, "label": place},
        "span-classification": {"text": text, "start": 0, "end": at - 1, "label": place},
        "multirc": {"passage": {"text": text, "questions": [question]}},
        "record": {"passage": {"text": text, "entities": [entity]}, "qas": [query]},
        "ner": {"tokens": words, "tags": tags},
        "qa": {
            "question": "Where is it?",
            "context": text,
            "answers": [{"text": place, "answer_start": at}],
        },
        "regression": {"text": text, "score": len(words) - 5.5},
        "multi-label": {"text": text, "labels": [place] + ["sister"] * ("sister" in words)},
        "multiple-choice": {
            "text": text,
            "choices": [*choices[:right], "the letter", *choices[right:]],
            "label": right,
        },
        "srl": {"tokens": words, "predicate": tags.index("O"), "tags": tags},
        "probing": {"sub_label": text, "obj_label": place},
    }[name]


TASKS: dict[str, Task[Any, Any]] = {
    "classification": Classification(labels=("Germany", "London"), dropout=0),
    "span-classification": SpanClassification(
        labels=("Germany", "London"), columns={"start": ["start"], "end": ["end"]}, marking="pooled", dropout=0
    ),
    "multirc": MultiRC(dropout=0),
    "record": ReCoRD(dropout=0),
    "ner": NER(labels=("LOC", "PER"), scheme="IOB2", dropout=0),
    "qa": QA(unanswerable=False),
    "regression": Regression(mean=0, deviation=2, dropout=0),
    "multi-label": MultiLabel(labels=("Germany", "London", "sister"), dropout=0),
    "multiple-choice": MultipleChoice(dropout=0),
    "srl": SRL(labels=("LOC", "PER"), scheme="IOB2", dropout=0),
    "probing": Probing(labels=("Germany", "London"), template="{subject} {mask}"),
}


def tiny_data(task: Task[Any, Any], backbone: Backbone, count: int = 24) -> EncodedSet:
    """Labelled, encoded examples of a task; the same ones for the same count."""
    records = [Record(_record(task.name, *fact), "tiny", n) for n, fact in enumerate(_facts(count))]
    return encode_examples(task, task.read(records, labelled=True), backbone)


class Recorder:
    """A tracker that keeps every event, and calls back if asked to."""

    def __init__(self, callback: Callable[[str, int], None] | None = None) -> None:
        self.events: list[tuple[str, int, dict[str, Any]]] = []
        self._callback = callback

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        self.events.append((kind, step, dict(values)))
        if self._callback is not None:
            self._callback(kind, step)

    def close(self) -> None:
        pass

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [values for found, _, values in self.events if found == kind]


def interrupt_at(*steps: int, number: int = signal.SIGINT) -> Recorder:
    """A tracker that sends this process a signal when a step is done."""

    def callback(kind: str, step: int) -> None:
        if kind == "step" and step in steps:
            os.kill(os.getpid(), number)

    return Recorder(callback)


class TinyTrainer(Trainer):
    """A trainer of one task, with short names for what it has."""

    @property
    def model(self) -> PromptedModel:
        return self.lanes[0].model

    @property
    def task(self) -> Task[Any, Any]:
        return self.lanes[0].task

    @property
    def train(self) -> EncodedSet:
        return self.lanes[0].train

    @property
    def dev(self) -> EncodedSet:
        return self.lanes[0].dev

    @dev.setter
    def dev(self, encoded: EncodedSet) -> None:
        self.lanes[0] = replace(self.lanes[0], dev=encoded)

    def fit(self) -> Outcome:
        (outcome,) = super().fit().values()
        return outcome


def tiny_trainer(
    *,
    task: Task[Any, Any] | str = "classification",
    method: Method | None = None,
    family: str = "bert",
    rows: int = 24,
    tracker: Recorder | None = None,
    checkpoint: Any = None,
    recipe: str = "tiny",
    processes: Processes | None = None,
    **settings: Any,
) -> TinyTrainer:
    """A fresh, seeded model with its trainer; ``settings`` are those of `TrainingSettings`."""
    task = TASKS[task] if isinstance(task, str) else task
    chosen = TrainingSettings(**{"epochs": 2, "batch_size": 4, "learning_rate": 1e-2, **settings})
    backbone = tiny_backbone(family, language_model=task.needs_language_model)
    torch.manual_seed(chosen.seed)
    head = task.build_head(backbone.hidden_size, backbone)
    model = PromptedModel(backbone, method or PTuningV2(prompt_length=4), head)
    lane = Lane(task.name, model, task, tiny_data(task, backbone, rows), tiny_data(task, backbone, 8))
    return TinyTrainer(
        [lane],
        chosen,
        tracker=tracker or Recorder(),
        checkpoint=checkpoint,
        recipe=recipe,
        processes=processes,
    )
