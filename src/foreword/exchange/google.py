"""Prompts of Google's prompt-tuning: one array of vectors that stand before a text.

Source: github.com/google-research/prompt-tuning; Lester et al. 2021. The three published prompts and
those that a training run writes (without a suffix) are files of ``numpy.save``, ``(P, W)``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from foreword.artifacts.format import Artifact
from foreword.backbones import Backbone
from foreword.errors import ArtifactError
from foreword.exchange.foreign import Foreign, encoder_of
from foreword.exchange.leaving import check_leaves, front_vectors, write_file
from foreword.exchange.reading import float32, read_array
from foreword.injection import Anchor, InputPrompt, Prompt
from foreword.methods import PromptTuning
from foreword.tasks import Task


def read_google(source: Path, backbone: Backbone, task: Task[Any, Any]) -> Foreign:
    """Vectors in front of the text.

    Args:
        source: the file.
        backbone: the one it was trained on: for the published ones T5 1.1 base, LM-adapted.
        task: of no interest here: the frozen model is its own head.

    Raises:
        ArtifactError: it is no such file, or not of this backbone.
    """
    del task
    if source.is_dir():
        raise ArtifactError(f"{source}: is a folder. Name the file of the prompt in it")
    vectors = float32(read_array(source), "the array", (None, backbone.embedding_size), source)
    prompt = Prompt(inputs=InputPrompt(vectors, (Anchor.FRONT,) * len(vectors)))
    method = PromptTuning(prompt_length=len(vectors))
    return Foreign(method, encoder_of(method, prompt, backbone, source), "an array of vectors has none", [source])


def write_google(artifact: Artifact, output: Path, *, backbone: str | None, prompt_only: bool) -> None:
    """Write the vectors of an artifact as ``numpy.save`` does.

    Args:
        artifact: with vectors in front of the text and nothing else.
        output: the file.
        backbone: of no interest here.
        prompt_only: whether a head may be left behind.

    Raises:
        ArtifactError: the artifact holds what such a file cannot.
        OutputError: the file is there already or cannot be written.
    """
    del backbone
    check_leaves(artifact)
    if artifact.head and not prompt_only:
        raise ArtifactError(f"{artifact.path}: such a file has no place for a head. Leave it behind (--prompt-only)")
    vectors = front_vectors(artifact)
    if vectors is None:
        raise ArtifactError(f"{artifact.path}: its prompt is keys and values, which such a file has no place for")
    content = io.BytesIO()
    np.save(content, vectors.numpy(), allow_pickle=False)
    write_file(output, content.getvalue())
