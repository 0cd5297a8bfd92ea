"""What a foreign checkpoint says, in Foreword's own terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from foreword.backbones import Backbone
from foreword.errors import ArtifactError, MethodError
from foreword.injection import Prompt
from foreword.methods import Method, PromptEncoder

Linear = tuple[Tensor, Tensor]
"""Weight ``(out, in)`` and bias ``(out,)``."""


@dataclass(frozen=True)
class ForeignHead:
    """The head of a foreign checkpoint.

    Attributes:
        reads: every 'token', or one vector per row: of the 'first' token or the 'last'.
        layers: one linear layer, or two with tanh between them.
    """

    reads: Literal["token", "first", "last"]
    layers: Sequence[Linear]


@dataclass(frozen=True)
class Foreign:
    """A foreign checkpoint, read and checked.

    Attributes:
        method: which of ours makes such a prompt.
        encoder: that method's, holding the checkpoint's numbers.
        head: or why there is none that could be taken over.
        files: that were read.
        about: what else the artifact should say of where it came from.
        warnings: what the user should know.
    """

    method: Method
    encoder: PromptEncoder
    head: ForeignHead | str
    files: Sequence[Path]
    about: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def encoder_of(method: Method, prompt: Prompt, backbone: Backbone, path: Path) -> PromptEncoder:
    """The encoder of ``method`` that makes ``prompt``, so that training can go on from it.

    Raises:
        ArtifactError: the prompt does not fit the backbone.
    """
    try:
        encoder = method.build(backbone)
        assert encoder is not None
        encoder.start_from(prompt)
    except MethodError as error:
        raise ArtifactError(f"{path}: does not fit the backbone ({error})") from error
    return encoder
