"""Beginning with the prompt of another run.

Source: Lester et al. 2021, section 3.2; Vu et al. 2022 (SPoT).
"""

from __future__ import annotations

from foreword.artifacts.format import load_artifact
from foreword.backbones import Backbone
from foreword.errors import ArtifactError, MethodError
from foreword.injection import Mixture, Prompt
from foreword.methods import Method, PromptEncoder


def prompt_to_start_from(path: str, backbone: Backbone) -> Prompt:
    """The folded prompt of an artifact.

    Args:
        path: the artifact's folder, or that of the run that made it.
        backbone: which it must have been made for.

    Raises:
        ArtifactError: damaged, made for another backbone, or without a prompt that means anything by itself.
    """
    artifact = load_artifact(path)
    artifact.check_backbone(backbone)
    if artifact.prompt is None:
        raise ArtifactError(f"{artifact.path}: has no prompt to start from (its method is '{artifact.method.name}')")
    if isinstance(artifact.prompt, Mixture):
        raise ArtifactError(f"{artifact.path}: has a mixture of prompts, which no single prompt can start from")
    if artifact.method.attaches or artifact.method.tunes_backbone:
        raise ArtifactError(
            f"{artifact.path}: its prompt was trained together with changes of the backbone, which a new run would "
            "not have"
        )
    return artifact.prompt


def start(method: Method, encoder: PromptEncoder | None, prompt: Prompt) -> None:
    """Let a fresh prompt begin with the numbers of another.

    Raises:
        MethodError: the method has no prompt, or one of another kind.
    """
    if encoder is None:
        raise MethodError(f"training.start_from: the method '{method.name}' has no prompt that could start from one")
    try:
        encoder.start_from(prompt)
    except MethodError as error:
        raise MethodError(f"training.start_from: {error}") from error
