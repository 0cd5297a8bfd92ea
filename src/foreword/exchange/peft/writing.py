"""From an artifact to a PEFT adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from foreword.artifacts.folders import whole_folder
from foreword.artifacts.format import Artifact
from foreword.artifacts.tensors import write_tensors
from foreword.backbones import Backbone, plan_backbone
from foreword.errors import ArtifactError, OutputError
from foreword.exchange.layout import matrix_of
from foreword.exchange.leaving import check_leaves, front_vectors
from foreword.exchange.peft.adapter import (
    CONFIG,
    EMBEDDINGS,
    MODEL,
    WEIGHTS,
    HeadNames,
    check_prefix,
    check_vectors,
    head_names,
)
from foreword.injection import Prompt
from foreword.tasks import NER, Classification
from foreword.tasks.making.depth import Depth

_LANGUAGE_MODELS = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM"}
_HIDDEN = "FEATURE_EXTRACTION"


def write_peft(artifact: Artifact, output: Path, *, backbone: str | None, prompt_only: bool) -> None:
    """Write an adapter that ``PeftModel.from_pretrained`` loads on the same backbone.

    Args:
        artifact: with a prompt that PEFT has words for.
        output: the folder.
        backbone: where the backbone's config is, if not where the artifact says; no weights are read.
        prompt_only: whether to leave the head behind.

    Raises:
        ArtifactError: PEFT has no words for something in it; the message says for what.
        OutputError: the folder is there already or cannot be written.
    """
    prompt, entry = check_leaves(artifact), artifact.manifest.backbone
    if output.exists():
        raise OutputError(f"{output}: exists already. Choose another --output")
    planned = plan_backbone(backbone or entry.name, revision=None if backbone else entry.revision)
    if planned.family != entry.family:
        raise ArtifactError(f"{artifact.path}: made for '{entry.family}', but '{planned.name}' is '{planned.family}'")
    vectors = front_vectors(artifact)
    if vectors is None:
        settings, tensor = _prefix(prompt, planned, str(artifact.path)), matrix_of(prompt.prefix)
    else:
        settings, tensor = _vectors(vectors, planned, str(artifact.path)), vectors
    names = None if prompt_only or not artifact.head else _names(artifact, planned, vectors=vectors is not None)
    whole = _LANGUAGE_MODELS.get(planned.kind, _HIDDEN) if entry.language_model else _HIDDEN
    settings |= {
        "base_model_name_or_path": entry.name,
        "revision": entry.revision,
        "inference_mode": True,
        "task_type": whole if names is None else names.task_type,
    }
    if names is not None:
        settings["modules_to_save"] = list(names.modules)
    head = {} if names is None else _head(artifact.head, names)
    with whole_folder(output) as folder:
        write_tensors({EMBEDDINGS: tensor} | head, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", "utf-8")
        (folder / "README.md").write_text(_card(artifact, with_head=bool(head)), "utf-8")


def _prefix(prompt: Prompt, planned: Backbone, who: str) -> dict[str, Any]:
    """Settings of a prefix, once it is one that PEFT can say."""
    check_prefix(planned, who)
    if any(pair.gate is not None for pair in prompt.prefix.values()):
        raise ArtifactError(f"{who}: its prompt has gates, which PEFT does not know")
    if prompt.infix:
        raise ArtifactError(f"{who}: its prompt is an infix, which PEFT does not know")
    if missing := [str(site) for site in planned.sites if site not in prompt.prefix]:
        raise ArtifactError(
            f"{who}: its prompt leaves out {', '.join(missing)}; PEFT's is at every layer (method.layers = 'all')"
        )
    if not prompt.shift_positions:
        raise ArtifactError(
            f"{who}: its text begins at position 0, and PEFT's behind the prefix, at {prompt.length}: the same prompt "
            "gives other numbers there. Train it with method.shift_positions = true"
        )
    shape = next(iter(planned.sites.values()))
    return {
        "peft_type": "PREFIX_TUNING",
        "num_virtual_tokens": prompt.length,
        "num_layers": len(planned.sites),
        "num_attention_heads": shape.heads,
        "token_dim": shape.heads * shape.head_size,
        "encoder_hidden_size": shape.heads * shape.head_size,
        "num_transformer_submodules": 1,
        "prefix_projection": False,
    }


def _vectors(vectors: Tensor, planned: Backbone, who: str) -> dict[str, Any]:
    """Settings of vectors in front of the text."""
    check_vectors(planned, who)
    shape = next(iter(planned.sites.values()))
    return {
        "peft_type": "PROMPT_TUNING",
        "num_virtual_tokens": len(vectors),
        "num_layers": 1 + max(site.layer for site in planned.sites),
        "num_attention_heads": shape.query_heads,
        "token_dim": vectors.shape[1],
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }


def _names(artifact: Artifact, planned: Backbone, *, vectors: bool) -> HeadNames:
    """What PEFT's model calls the head, once it is one of its own."""
    task, names = artifact.task, head_names(artifact.task, planned, vectors=vectors)
    if isinstance(names, HeadNames):
        biases = [tensor for name, tensor in artifact.head.items() if name.endswith(".bias")]
        hidden = len(names.layers) == 2
        if isinstance(task, Depth) and task.layers == "all":
            names = "its head reads all layers, and heads of PEFT's models read the last one (task.layers = 'last')"
        elif isinstance(task, Classification) and (task.pooling, task.hidden_layer) != (names.reads, hidden):
            shape = f"task.pooling = '{names.reads}' and task.hidden_layer = {str(hidden).lower()}"
            names = f"PEFT's '{planned.family}' model has the head of {shape}"
        elif not names.biased and any(bool(bias.any()) for bias in biases):
            names = f"PEFT's '{planned.family}' model has a head without a bias"
    if isinstance(names, str):
        raise ArtifactError(f"{artifact.path}: {names}. Leave the head behind (--prompt-only)")
    return names


def _head(head: Mapping[str, Tensor], names: HeadNames) -> dict[str, Tensor]:
    """Our head's layers under PEFT's names."""
    ours = sorted(name.removesuffix(".weight") for name in head if name.endswith(".weight"))
    parts = ("weight", "bias") if names.biased else ("weight",)
    pairs = list(zip(names.layers, ours, strict=True))
    return {f"{MODEL}{theirs}.{part}": head[f"{own}.{part}"] for theirs, own in pairs for part in parts}


def _card(artifact: Artifact, *, with_head: bool) -> str:
    """A README that says what an adapter's config has no field for: the order of the outputs."""
    task, base = artifact.task, artifact.manifest.backbone.name
    outputs = task.tags if isinstance(task, NER) else task.labels or ()
    listed = f"\nOutputs of its head, in order: {', '.join(outputs)}\n" if outputs and with_head else ""
    return (
        f"---\nlibrary_name: peft\nbase_model: {json.dumps(base)}\n---\n\n# {task.name}\n\n"
        f"A soft prompt for the frozen model `{base}`, made with Foreword (method `{artifact.method.name}`) and "
        f"exported for HF PEFT.\n{listed}"
    )
