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

from foreword.attachment import Attachment
from foreword.errors import MethodError
from foreword.injection import KeyValue, Mixture, Prefix, Prompt, Site, SiteShape


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


class Carrier(Protocol):
    """What a method may know of the backbone whose modules it changes."""

    @property
    def name(self) -> str:
        """As the user gave it."""

    @property
    def family(self) -> str:
        """`transformers` model type, such as "bert"."""

    @property
    def hidden_size(self) -> int:
        """D."""

    @property
    def model(self) -> nn.Module:
        """The `transformers` model."""

    @property
    def places(self) -> Mapping[str, nn.Module]:
        """Every module of it by name; the names do not depend on whether it has its vocabulary head."""

    @property
    def layers(self) -> Mapping[str, nn.Module]:
        """Those of them that are layers, of every stack, input to output."""


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
    """The trainable part of a method: parameters in, one unbatched `Prompt` out, or a `Mixture` of some."""

    def forward(self) -> Prompt | Mixture:
        """The prompt as a backbone reads it, differentiable in the parameters."""
        raise TypeError(f"{type(self).__name__} does not say how its prompt is made")

    def start_from(self, prompt: Prompt) -> None:
        """Begin with the numbers of another prompt, as far as they fit; what has no match keeps its own start.

        A shorter prompt fills the first positions of a longer one; of a longer prompt the first are taken.

        Args:
            prompt: folded, as an artifact holds it. Its kind must be this encoder's.

        Raises:
            MethodError: nothing of it fits, or it is of another kind.
        """
        del prompt
        raise MethodError(f"a prompt made by {type(self).__name__} cannot start from another prompt")


class FoldedPrompt(PromptEncoder):
    """A finished prompt: plain numbers, nothing left to compute or to train.

    Args:
        prompt: of which a copy is kept.
    """

    def __init__(self, prompt: Prompt | Mixture) -> None:
        super().__init__()
        self._prompt = prompt
        self._names: list[str] = []
        prompt.map(self._keep)

    def _keep(self, tensor: Tensor) -> Tensor:
        name = f"tensor_{len(self._names)}"
        self._names.append(name)
        self.register_buffer(name, tensor.detach().clone(), persistent=False)
        return tensor

    def forward(self) -> Prompt | Mixture:
        """The prompt it was given, on the device and in the type of this module."""
        names = iter(self._names)
        return self._prompt.map(lambda _: self.get_buffer(next(names)))


@torch.no_grad()
def fold(encoder: PromptEncoder) -> Prompt | Mixture:
    """Run the reparameterization once and keep its result; dropout is off."""
    was_training = encoder.training
    encoder.eval()
    prompt: Prompt | Mixture = encoder().map(lambda tensor: tensor.detach().clone())
    encoder.train(was_training)
    return prompt


def single(prompt: Prompt | Mixture) -> Prompt:
    """A prompt where no mixture of several can stand.

    Raises:
        MethodError: it is one.
    """
    if isinstance(prompt, Mixture):
        raise MethodError(
            f"a mixture of {len(prompt.prompts)} prompts answers with probabilities of a task's head alone; it is no "
            "prompt to generate with, to start from, or to put together with others"
        )
    return prompt


class Method(BaseModel):
    """Settings of one way to adapt a backbone.

    Attributes:
        name: the word for it in recipes and artifacts.
        summary: one line for `foreword methods`.
        first_defaults: what settings were by default when they came, where that has changed, or what was done before
            there was such a setting. Artifacts that do not have one have this; and finished runs of studies are known
            by what differs from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: ClassVar[str]
    summary: ClassVar[str]
    first_defaults: ClassVar[Mapping[str, Any]] = {}

    @property
    def tunes_backbone(self) -> bool:
        """Whether weights of the backbone itself are trained, which `tuned` then chooses."""
        return False

    @property
    def attaches(self) -> bool:
        """Whether `attach` puts something into the backbone."""
        return False

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

    def tuned(self, names: Sequence[str]) -> frozenset[str]:
        """Which of the backbone's own weights are trained in place.

        Args:
            names: of all of them.

        Raises:
            MethodError: the settings speak of weights that are not there.
        """
        del names
        return frozenset()

    def attach(self, backbone: Carrier, attachment: Attachment) -> None:
        """Put fresh modules into the backbone, initialized from torch's global generator.

        Args:
            backbone: whose modules are changed.
            attachment: takes the modules (`Attachment.put`). Other methods may have put theirs there before.

        Raises:
            MethodError: the settings do not fit the backbone.
        """
        del backbone, attachment

    @property
    def default_learning_rate(self) -> float:
        """The rate to start from, for what this method trains besides the head."""
        return 1e-3

    def learning_rate_of(self, parameter: str, chosen: float | None) -> float:
        """The rate of one trained parameter.

        Args:
            parameter: its name in the model, which begins with 'prompt', 'attachment' or 'backbone'.
            chosen: the one in the training settings, None where it is left to the method.
        """
        del parameter
        return chosen or self.default_learning_rate


def attach(method: Method, backbone: Carrier) -> Attachment | None:
    """What a method puts into a backbone, in place; None if that is nothing.

    Raises:
        MethodError: its settings do not fit the backbone, which is then as it was before.
    """
    attachment = Attachment()
    try:
        method.attach(backbone, attachment)
    except BaseException:
        attachment.detach()
        raise
    return attachment if len(attachment) > 0 else None


def check_changes(method: Method, backbone: Carrier) -> None:
    """See that what a method changes in a backbone is there, without making numbers or leaving anything behind.

    Raises:
        MethodError: its settings do not fit the backbone.
    """
    with torch.device("meta"):
        attachment = attach(method, backbone)
    if attachment is not None:
        attachment.detach()
    method.tuned([name for name, _ in backbone.model.named_parameters()])
