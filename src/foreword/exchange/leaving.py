"""What every export has in common: what may leave at all, and how it is written."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from foreword.artifacts.format import Artifact
from foreword.errors import ArtifactError, OutputError
from foreword.injection import Anchor, Mixture, Prompt


def check_leaves(artifact: Artifact) -> Prompt:
    """The prompt of an artifact that is nothing but prompt and head.

    Raises:
        ArtifactError: it has none, or changes the backbone besides.
    """
    if artifact.method.tunes_backbone or artifact.method.attaches:
        raise ArtifactError(
            f"{artifact.path}: '{artifact.method.name}' changes the backbone itself, which no prompt of another "
            "library can say"
        )
    if artifact.prompt is None:
        raise ArtifactError(f"{artifact.path}: '{artifact.method.name}' has no prompt to export")
    if isinstance(artifact.prompt, Mixture):
        raise ArtifactError(
            f"{artifact.path}: has a mixture of prompts ('{artifact.method.name}'), which no other format knows"
        )
    if artifact.prompt.modulations:
        raise ArtifactError(f"{artifact.path}: its prompt modulates hidden states ('ssf'), which no other format knows")
    return artifact.prompt


def front_vectors(artifact: Artifact) -> Tensor | None:
    """The vectors ``(P, W)`` of a prompt that stands in front of the text; None where it is keys and values.

    Raises:
        ArtifactError: they stand elsewhere, or are not all of the prompt.
    """
    prompt = check_leaves(artifact)
    if prompt.inputs is None:
        return None
    if prompt.prefix:
        raise ArtifactError(f"{artifact.path}: has keys and values and vectors; other formats have one of them")
    if prompt.inputs.deltas:
        raise ArtifactError(f"{artifact.path}: its prompt has layer deltas, which no other format knows")
    places = {anchor for anchor in prompt.inputs.anchors if anchor != Anchor.FRONT}
    if places:
        named = ", ".join(place.name.lower().replace("_", " ") for place in sorted(places))
        raise ArtifactError(
            f"{artifact.path}: its vectors stand elsewhere than in front of the text ({named}), where no other format "
            "can put them. Train one with method 'prompt-tuning' and placement = 'front'"
        )
    return prompt.inputs.vectors


def write_file(path: Path, content: bytes) -> None:
    """Write a file that is not there yet, whole or not at all.

    Raises:
        OutputError: it is there, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            try:
                file.write(content)
            except OSError:
                path.unlink()
                raise
    except FileExistsError as error:
        raise OutputError(f"{path}: exists already. Choose another --output") from error
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
