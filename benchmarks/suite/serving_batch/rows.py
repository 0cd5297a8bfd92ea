"""Tasks with made-up prompts, and requests for them. Prompts have random numbers: their cost does not depend on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import foreword as fw
from foreword.artifacts.format import Artifact, load_artifact
from foreword.inference.engine import Engine, Job
from suite.pretrained import WORDS

LENGTH, PROMPT, ROWS = 64, 20, 64
ITEMS: Mapping[str, Callable[[list[str]], dict[str, Any]]] = {
    "classification": lambda words: {"text": " ".join(words)},
    "ner": lambda words: {"tokens": words},
    "qa": lambda words: {"question": " ".join(words[:5]), "context": " ".join(words[5:-1])},
}
"""Task -> an item of some words, which make as many tokens and two for the ends (and the one between)."""
LABELS: Mapping[str, Callable[[int, list[str]], dict[str, Any]]] = {
    "classification": lambda n, _: {"label": str(n % 2)},
    "ner": lambda n, words: {"tags": ["B-X" if (n + i) % 3 == 0 else "O" for i in range(len(words))]},
    "qa": lambda _, words: {"answers": [{"text": words[5], "answer_start": 0}]},
}


def base_artifacts(backbone: fw.Backbone, folder: Path, **method: Any) -> dict[str, Artifact]:
    """One trained artifact per kind of task; a single step, for the form and not for the numbers."""
    tasks = {"classification": fw.Classification(), "ner": fw.NER(), "qa": fw.QA()}
    for kind, task in tasks.items():
        data = [ITEMS[kind](words := [*WORDS[n:], *WORDS[:n]]) | LABELS[kind](n, words) for n in range(4)]
        prompt = fw.PTuningV2(prompt_length=PROMPT, **method)
        fw.train(backbone, prompt, task, train=data, dev=data, progress=False, epochs=1).save(folder / kind)
    return {kind: load_artifact(folder / kind) for kind in tasks}


def variants(bases: Mapping[str, Artifact], count: int) -> dict[str, Artifact]:
    """Tasks of all kinds in turn, with prompts of their own."""
    kinds, found = list(bases.values()), {}
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        base = kinds[number % len(kinds)]
        assert base.prompt is not None
        prompt = base.prompt.map(lambda tensor, g=generator: torch.randn(tensor.shape, generator=g) * 0.5)
        found[f"task-{number}"] = replace(base, prompt=prompt)
    return found


def requests(
    artifacts: Mapping[str, Artifact], names: Sequence[str], chance: random.Random, length: int = LENGTH
) -> list[tuple[str, dict[str, Any]]]:
    """One text of so many tokens per name."""
    return [(name, ITEMS[artifacts[name].task.name](chance.choices(WORDS, k=length - 2))) for name in names]


def jobs_of(engine: Engine, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[Job]:
    """The requests, encoded."""
    return [engine.encode(engine.resolve(name), item) for name, item in asked]
