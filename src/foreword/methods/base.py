"""What a method is: settings that can build a prompt encoder for a backbone.

A method knows no task and no model family. Its settings are a frozen pydantic model, so the same
class is the recipe's ``[method]`` table, the Python API's constructor, and what an artifact records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from foreword.injection import KeyValue, Prefix, Prompt, Site, SiteShape


class Host(Protocol):
    """What a method may know of the backbone it is built for; no family, no model class."""

    @property
    def sites(self) -> Mapping[Site, SiteShape]:
        """Every attention site, and the sizes of a prefix there."""

    @property
    def hidden_size(self) -> int:
        """D."""

    @property
    def embedding_size(self) -> int:
        """W."""

    @property
    def vocabulary_size(self) -> int:
        """V."""

    @property
    def tokenizer(self) -> Any:
        """The backbone's fast tokenizer."""

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings ``(..., W)`` of token ids."""

    def activations(self, ids: Sequence[int]) -> Prefix:
        """Keys and values the bare model computes for a text."""


class Blueprint:
    """A backbone without its numbers, so that a prompt's shapes are found in no time.

    Args:
        backbone: whose sizes it has.
    """

    def __init__(self, backbone: Host) -> None:
        self.sites, self.tokenizer = backbone.sites, backbone.tokenizer
        self.hidden_size, self.embedding_size = backbone.hidden_size, backbone.embedding_size
        self.vocabulary_size = backbone.vocabulary_size

    def embed(self, ids: Tensor) -> Tensor:
        """A tensor of the right shape."""
        return torch.empty((*ids.shape, self.embedding_size), device="meta")

    def activations(self, ids: Sequence[int]) -> Prefix:
        """Tensors of the right shapes."""
        return {
            site: KeyValue(*(torch.empty((shape.heads, len(ids), shape.head_size), device="meta") for _ in range(2)))
            for site, shape in self.sites.items()
        }


class PromptEncoder(nn.Module):
    """The trainable part of a method: parameters in, one unbatched `Prompt` out."""

    def forward(self) -> Prompt:
        """The prompt as a backbone reads it, differentiable in the parameters."""
        raise TypeError(f"{type(self).__name__} does not say how its prompt is made")


class FoldedPrompt(PromptEncoder):
    """A finished prompt: plain numbers, nothing left to compute or to train.

    Args:
        prompt: of which a copy is kept.
    """

    def __init__(self, prompt: Prompt) -> None:
        super().__init__()
        self._prompt = prompt
        self._names: list[str] = []
        prompt.map(self._keep)

    def _keep(self, tensor: Tensor) -> Tensor:
        name = f"tensor_{len(self._names)}"
        self._names.append(name)
        self.register_buffer(name, tensor.detach().clone(), persistent=False)
        return tensor

    def forward(self) -> Prompt:
        """The prompt it was given, on the device and in the type of this module."""
        names = iter(self._names)
        return self._prompt.map(lambda _: self.get_buffer(next(names)))


@torch.no_grad()
def fold(encoder: PromptEncoder) -> Prompt:
    """Run the reparameterization once and keep its result; dropout is off."""
    was_training = encoder.training
    encoder.eval()
    prompt: Prompt = encoder().map(lambda tensor: tensor.detach().clone())
    encoder.train(was_training)
    return prompt


class Method(BaseModel):
    """Settings of one way to adapt a backbone.

    Attributes:
        name: the word for it in recipes and artifacts.
        summary: one line for `foreword methods`.
        tunes_backbone: whether the backbone's own weights are trained too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: ClassVar[str]
    summary: ClassVar[str]
    tunes_backbone: ClassVar[bool] = False

    @property
    def positions_taken(self) -> int:
        """How many of the backbone's positions the prompt takes from the text."""
        return 0

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> PromptEncoder | None:
        """A fresh prompt encoder, initialized from torch's global generator.

        Args:
            backbone: what the prompt is for.
            labels: names of the task's classes, to start from where the settings say so.

        Returns:
            None for methods that put nothing before the tokens.

        Raises:
            MethodError: the settings do not fit the backbone.
        """
        del backbone, labels
        return None

    @property
    def default_learning_rate(self) -> float:
        """The rate to start from, for what this method trains besides the head."""
        return 1e-3
