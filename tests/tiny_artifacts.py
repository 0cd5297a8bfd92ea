"""Small artifacts of every task and method, trained for two steps, and ways to damage one."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import foreword as fw
from foreword.backbones import Backbone
from foreword.methods import Method
from foreword.tasks import Task
from foreword.training.run import TrainedRun
from tiny import tiny_backbone

METHODS: dict[str, Method] = {
    "ptuning-v2": fw.PTuningV2(prompt_length=4),
    "ptuning-v2-mlp": fw.PTuningV2(prompt_length=3, reparameterization="mlp", mlp_hidden=8),
    "ptuning-v2-some-layers": fw.PTuningV2(prompt_length=2, layers="1-2"),
    "ptuning-v2-gate": fw.PTuningV2(prompt_length=3, gate=True, shift_positions=True),
    "prefix-tuning": fw.PrefixTuning(prompt_length=3, mlp_hidden=8, init="vocabulary"),
    "prompt-tuning": fw.PromptTuning(prompt_length=5),
    "p-tuning": fw.PTuning(template=(2, "text", 1)),
    "p-tuning-mlp": fw.PTuning(template=(1, "text", 1), reparameterization="mlp", hidden=8),
    "layer-deltas": fw.LayerDeltas(prompt_length=3, placement="after-first"),
    "warp": fw.WARP(template=(2, "text", 2)),
    "ssf": fw.SSF(),
    "fine-tuning": fw.FineTuning(),
    "bitfit": fw.BitFit(),
    "ln-tuning": fw.LNTuning(),
    "lora": fw.LoRA(r=2),
    "ia3": fw.IA3(),
    "adapter": fw.Adapter(bottleneck=3),
    "combined": fw.Combined(
        parts=(fw.PTuningV2(prompt_length=2), fw.PromptTuning(prompt_length=3), fw.Adapter(bottleneck=3))
    ),
    "modulated": fw.Combined(parts=(fw.PTuningV2(prompt_length=2), fw.SSF())),
    "mixture": fw.MixtureOfPrompts(of=fw.LayerDeltas(prompt_length=2), count=3),
    "mixture-of-prefixes": fw.MixtureOfPrompts(of=fw.PTuningV2(prompt_length=3), count=2),
    "head-only": fw.HeadOnly(),
}
"""Settings of every method in the library's table, and of the ways a prompt can be made."""

TASKS: dict[str, Task[Any, Any]] = {
    "classification": fw.Classification(hidden_layer=True),
    "span-classification": fw.SpanClassification(marking="both"),
    "multirc": fw.MultiRC(),
    "record": fw.ReCoRD(hidden_layer=True),
    "ner": fw.NER(),
    "qa": fw.QA(window=32, stride=8),
    "regression": fw.Regression(),
    "multi-label": fw.MultiLabel(),
    "multiple-choice": fw.MultipleChoice(),
    "srl": fw.SRL(head_width=8),
    "probing": fw.Probing(labels=("london", "germany", "it"), template="{subject} {mask}"),
}

_ROWS = [
    (["Anna", "Smith", "visited", "London", "."], ["B-PER", "I-PER", "O", "B-LOC", "O"]),
    (["Peter", "was", "reading", "about", "Germany", "and", "it"], ["B-PER", "O", "O", "O", "B-LOC", "O", "O"]),
    (["nobody", "didn't", "like", "London"], ["O", "O", "O", "B-LOC"]),
    (["my", "sister", "wrote", "a", "letter", "to", "O'Brien"], ["O", "O", "O", "O", "O", "O", "B-PER"]),
]


def records(task: str, labelled: bool = True) -> list[dict[str, Any]]:
    """Four items of different lengths, as a user would hand them in."""
    items: list[dict[str, Any]] = []
    for number, (words, tags) in enumerate(_ROWS):
        text = " ".join(words)
        last = {"text": words[-1], "answer_start": len(text) - len(words[-1])}
        stretches = {"start1": 0, "end1": len(words[0]), "start2": last["answer_start"], "end2": len(text)}
        item, gold = {
            "classification": ({"text": text}, {"label": ("yes", "no")[number % 2]}),
            "span-classification": ({"text": text} | stretches, {"label": ("yes", "no")[number % 2]}),
            "multirc": (_passage(words, labelled), {}),
            "record": (_gaps(words, labelled), {}),
            "ner": ({"tokens": words}, {"tags": tags}),
            "qa": ({"question": "What is last?", "context": text}, {"answers": [last] if number else []}),
            "regression": ({"text": text}, {"score": len(words)}),
            "multi-label": ({"text": text}, {"labels": ["long", "even"][number % 2 : number]}),
            "multiple-choice": ({"text": text, "choices": words[: 2 + number % 3]}, {"label": number % 2}),
            "srl": ({"tokens": words, "predicate": 2}, {"tags": tags}),
            "probing": ({"sub_label": text}, {"obj_label": ("London", "Germany")[number % 2]}),
        }[task]
        items.append(item | gold if labelled else item)
    return items


def _passage(words: list[str], labelled: bool) -> dict[str, Any]:
    """As many questions as there are words that follow the first two, each with three candidates."""
    questions = []
    for number, word in enumerate(words[2:]):
        answers = [{"text": text} | ({"label": int(text == word)} if labelled else {}) for text in (word, words[0], "")]
        questions.append({"question": f"Which word is number {number}?", "answers": answers})
    return {"passage": {"text": " ".join(words), "questions": questions}}


def _gaps(words: list[str], labelled: bool) -> dict[str, Any]:
    """Two queries about the first and the last word, and the last again."""
    text = " ".join(words)
    last = {"start": len(text) - len(words[-1]), "end": len(text) - 1}
    queries = [
        {"query": f"@placeholder is {place}."} | ({"answers": [{"text": word}]} if labelled else {})
        for place, word in (("first", words[0]), ("last", words[-1]))
    ]
    return {"passage": {"text": text, "entities": [{"start": 0, "end": len(words[0]) - 1}, last, last]}, "qas": queries}


PAIRS = [(task, method) for task in TASKS for method in METHODS if (task, method) != ("probing", "head-only")]
"""Every task with every method that has something to train in it."""


def backbone_for(task: str) -> Backbone:
    """A tiny BERT, with its language model where the task needs one."""
    return tiny_backbone(language_model=TASKS[task].needs_language_model)


def train_tiny(task: str, method: str, backbone: Backbone | None = None, **training: Any) -> TrainedRun:
    """Two steps of training; not enough to learn, enough to move every number."""
    settings = {"epochs": 1, "batch_size": 2, "learning_rate": 1e-2, **training}
    data = records(task)
    return fw.train(
        backbone or backbone_for(task), METHODS[method], TASKS[task], train=data, dev=data, progress=False, **settings
    )


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="foreword-artifacts-")


def tiny_artifact(task: str = "classification", method: str = "ptuning-v2") -> Path:
    """An artifact, made once per process. Not to be changed: copy it."""
    path = Path(_scratch().name) / f"{task}-{method}"
    if not path.exists():
        train_tiny(task, method).save(path)
    return path


def change_manifest(artifact: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change `artifact.json` in place."""
    path = artifact / "artifact.json"
    raw = json.loads(path.read_text("utf-8"))
    change(raw)
    path.write_text(json.dumps(raw), "utf-8")


def fix_hash(artifact: Path, name: str) -> None:
    """Make the manifest agree with a file."""
    content = (artifact / name).read_bytes()
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change_manifest(artifact, lambda raw: raw["files"].update({name: entry}))


def change_tensors(
    artifact: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor] | None], name: str = "prompt.safetensors"
) -> None:
    """Put other numbers into a file, and make the manifest agree, as someone who means harm would."""
    tensors = load_file(artifact / name)
    changed = change(tensors)
    save_file({n: t.contiguous() for n, t in (tensors if changed is None else changed).items()}, artifact / name)
    fix_hash(artifact, name)


@torch.inference_mode()
def answers_of(predictor: fw.Predictor) -> list[list[float]]:
    """Exact logits of the four items, one flat list per row."""
    from foreword.data.records import Record
    from foreword.inference.encoding import encode_examples
    from foreword.inference.forward import row_logits

    items = [Record(item, "tiny", n) for n, item in enumerate(records(predictor.task.name, labelled=False))]
    examples = predictor.task.read(items, labelled=False)
    rows = encode_examples(predictor.task, examples, predictor.backbone).rows
    return [logits.flatten().tolist() for logits in row_logits(predictor.model, rows)]
