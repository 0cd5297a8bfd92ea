"""What the tests of foreign formats share: adapters made by PEFT itself, and both sides' answers to one batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import peft
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.backbones import Backbone, load_backbone
from foreword.data.batching import Batch
from foreword.injection import Prompt
from foreword.methods import FoldedPrompt, Method
from foreword.tasks import Task
from plain import TEXTS, batch_of, row_of
from tiny import tiny_backbone_folder

LENGTH = 5
MODELS = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
    "QUESTION_ANS": AutoModelForQuestionAnswering,
    "FEATURE_EXTRACTION": AutoModel,
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_2_SEQ_LM": AutoModelForSeq2SeqLM,
}
CONFIGS = {
    "PREFIX_TUNING": peft.PrefixTuningConfig,
    "PROMPT_TUNING": peft.PromptTuningConfig,
    "P_TUNING": peft.PromptEncoderConfig,
}
TAGS = ("O", "B-PER", "I-PER")
TASKS: dict[str, tuple[Task[Any, Any], tuple[str, ...]]] = {
    "SEQ_CLS": (fw.Classification(), ("no", "maybe", "yes")),
    "TOKEN_CLS": (fw.NER(), TAGS),
    "QUESTION_ANS": (fw.QA(), ()),
}
"""PEFT's word for a task -> our task, and the names of three outputs (two, for questions)."""


def backbone_with_pooler(family: str, folder: Path) -> Backbone:
    """A tiny backbone whose checkpoint holds all that `AutoModel` has, and that knows a token for padding."""
    folder = tiny_backbone_folder(family, folder)
    backbone = load_backbone(str(folder))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModel.from_pretrained(folder)
        for name, parameter in model.named_parameters():
            if "pooler" in name:
                parameter.data.normal_(std=0.3)
    model.config.pad_token_id = backbone.tokenizer.pad_token_id
    model.save_pretrained(folder)
    return load_backbone(str(folder))


@cache
def _loaded(name: str, task_type: str) -> Any:
    labels = {"num_labels": 3} if task_type in ("SEQ_CLS", "TOKEN_CLS") else {}
    return MODELS[task_type].from_pretrained(name, **labels).eval()


def base_model(backbone: Backbone, task_type: str) -> Any:
    """The model of `transformers` that PEFT wraps and changes, from the backbone's files."""
    return deepcopy(_loaded(backbone.name, task_type))


def make_adapter(backbone: Backbone, kind: str, task_type: str, folder: Path, **settings: Any) -> Any:
    """A PEFT model with random trained numbers, saved in ``folder`` by PEFT itself."""
    torch.manual_seed(3)
    settings = {"task_type": task_type, "num_virtual_tokens": LENGTH} | settings
    if kind != "PREFIX_TUNING":
        settings |= {"token_dim": backbone.embedding_size}
    model = get_peft_model(base_model(backbone, task_type), CONFIGS[kind](**settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.7)
    model.save_pretrained(folder)
    return model


def load_adapter(backbone: Backbone, folder: Path) -> Any:
    """An adapter as PEFT loads it."""
    task_type = json.loads((folder / "adapter_config.json").read_text())["task_type"]
    return PeftModel.from_pretrained(base_model(backbone, task_type), folder).eval()


def batch_for(backbone: Backbone, texts: Sequence[str] = TEXTS) -> dict[str, Tensor]:
    """Texts of different lengths, padded; for families with segments, with a second one in each row."""
    rows = [row_of(backbone, text) for text in texts]
    for row in rows:
        if "token_type_ids" in row:
            row["token_type_ids"] = [number % 2 for number in range(len(row["input_ids"]))]
    return batch_of(backbone, rows)


@torch.no_grad()
def peft_logits(model: Any, batch: Mapping[str, Tensor], *, skip: int = 0) -> Tensor:
    """What PEFT answers, without the ``skip`` positions of its vectors."""
    out = model(**batch)
    if "start_logits" in out:
        return torch.stack([out.start_logits, out.end_logits], dim=-1)[:, skip:]
    logits: Tensor = out.logits if "logits" in out else out.last_hidden_state
    return logits if logits.dim() == 2 else logits[:, skip:]


@torch.no_grad()
def our_logits(artifact: Path, backbone: Backbone, batch: Mapping[str, Tensor]) -> Tensor:
    """What the artifact's model answers."""
    model = load_artifact(artifact).build_model(backbone)
    out: Tensor = model(Batch(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"), {}, ()))
    return out


@torch.no_grad()
def our_states(prompt: Prompt, backbone: Backbone, batch: Mapping[str, Tensor]) -> Tensor:
    """Hidden states of the text behind a prompt."""
    from foreword.injection import Injection

    states: Tensor = backbone(**batch, injection=Injection([prompt]))
    return states


def same(ours: Tensor, theirs: Tensor, batch: Mapping[str, Tensor]) -> None:
    """Compare answers, those to tokens only where there is text."""
    assert ours.shape == theirs.shape
    if ours.dim() == 3:
        ours, theirs = (side[batch["attention_mask"].bool()] for side in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def artifact_of(
    path: Path, backbone: Backbone, method: Method, task: Task[Any, Any], *, scale: float = 0.7, zero_bias: bool = False
) -> Path:
    """An artifact with random numbers in place of trained ones."""
    from foreword.artifacts.format import save_artifact
    from foreword.methods import fold
    from foreword.model import PromptedModel

    torch.manual_seed(11)
    head = task.build_head(backbone.hidden_size, backbone)
    encoder = method.build(backbone)
    assert encoder is not None
    prompt = fold(encoder).map(lambda tensor: torch.randn_like(tensor) * scale)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            parameter.normal_(std=0.3) if not (zero_bias and "bias" in name) else parameter.zero_()
    model = PromptedModel(backbone, method, head, FoldedPrompt(prompt))
    save_artifact(path, model, _manifest(model, task))
    return path


def _manifest(model: Any, task: Task[Any, Any]) -> Any:
    from foreword.artifacts.format import backbone_entry
    from foreword.artifacts.manifest import (
        FORMAT_VERSION,
        BackboneEntry,
        Component,
        DataEntry,
        Manifest,
        MetricsEntry,
        ParametersEntry,
        TrainingEntry,
    )

    data = DataEntry(files={}, examples=1, rows=1, notes={})
    return Manifest(
        format_version=FORMAT_VERSION,
        created="2026-01-01T00:00:00+00:00",
        backbone=BackboneEntry(**backbone_entry(model.backbone)),
        task=Component(type=task.name, settings=task.model_dump(mode="json")),
        method=Component(type=model.method.name, settings=model.method.model_dump(mode="json")),
        recipe={},
        max_length=None,
        data={"train": data, "dev": data},
        metrics=MetricsEntry(main="accuracy", values={"accuracy": 0.5}, counts={}),
        parameters=ParametersEntry(prompt=1, head=1, backbone_trained=0, backbone=1),
        training=TrainingEntry(seed=0, steps=1, best_step=1, seconds=0.0, padding=0.0, evaluations=[]),
        versions={},
        files={},
    )
