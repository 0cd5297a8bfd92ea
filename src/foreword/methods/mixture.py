"""A mixture of prompts: each answers for itself, and their probabilities are averaged.

Source: Qin & Eisner 2021, 'Learning How to Ask: Querying LMs with Mixtures of Soft Prompts', section
3.4: p(y | x) is the sum over prompts of w_k p(y | x, prompt k). The weights are trained with the
prompts and do not depend on the text (section 3.5 of the paper, weights by relation, is not here).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, SerializationInfo, field_serializer, field_validator
from torch import Tensor, nn

from foreword.errors import MethodError
from foreword.injection import Mixture, Prompt
from foreword.methods.base import Host, Method, PromptEncoder, fold, single
from foreword.methods.making.nested import read_method, table_of


class MixtureOfPrompts(Method):
    """Settings of a mixture."""

    name: ClassVar[str] = "mixture"
    summary: ClassVar[str] = "several prompts whose answers are averaged (Qin & Eisner 2021)"
    table: ClassVar[Mapping[str, type[Method]]]
    """Where the ``type`` of `of` is looked up: the table of all methods."""

    of: Method
    """The method that makes each prompt: a [method.of] table with a type and its settings."""
    count: int = Field(default=4, ge=1, le=256)
    """K, prompts. Every row is read once by each of them, which takes K times the computation."""

    @property
    def positions_taken(self) -> int:
        """By one prompt, for a row reads one at a time."""
        return self.of.positions_taken

    @property
    def default_learning_rate(self) -> float:
        """That of the method inside."""
        return self.of.default_learning_rate

    def learning_rate_of(self, parameter: str, chosen: float | None) -> float:
        """What the method inside says of its own parameters; the weights learn at the rate of the whole."""
        match parameter.split(".", 3):
            case ["prompt", "prompts", _, inner]:
                return self.of.learning_rate_of(f"prompt.{inner}", chosen)
            case _:
                return super().learning_rate_of(parameter, chosen)

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> MixtureEncoder:
        """K prompts that start from numbers of their own, with equal weights."""
        encoders = [encoder for _ in range(self.count) if (encoder := self.of.build(backbone, labels)) is not None]
        if not encoders:
            raise MethodError(f"method.of: '{self.of.name}' makes no prompt. Choose a method that does")
        if _all_alike([single(fold(encoder)) for encoder in encoders]):
            raise MethodError(
                f"method.of: the prompts of '{self.of.name}' all start from the same numbers with these settings, so "
                "they would all learn the same. Choose a start that is drawn at random"
            )
        return MixtureEncoder(encoders)

    @field_validator("of", mode="before")
    @classmethod
    def _look_up(cls, of: Any) -> Any:
        return read_method(cls.table, of, without=(cls.name,))

    @field_serializer("of")
    def _table(self, of: Method, info: SerializationInfo) -> dict[str, Any]:
        return table_of(of, info)

    @field_validator("of")
    @classmethod
    def _makes_prompts(cls, of: Method) -> Method:
        if isinstance(of, MixtureOfPrompts):
            raise ValueError("a mixture has no mixture in it: raise count")  # noqa: TRY004  pydantic's
        if of.attaches or of.tunes_backbone:
            raise ValueError(f"'{of.name}' changes the backbone itself, which all prompts of a mixture share")
        return of


class MixtureEncoder(PromptEncoder):
    """Prompts and their weights.

    Args:
        prompts: the encoder of each.
    """

    def __init__(self, prompts: Sequence[PromptEncoder]) -> None:
        super().__init__()
        self.prompts = nn.ModuleList(prompts)
        self.log_weights = nn.Parameter(torch.zeros(len(prompts)))

    def forward(self) -> Mixture:
        """All prompts, and weights that add up to 1."""
        return Mixture(tuple(single(encoder()) for encoder in self.prompts), self.log_weights.log_softmax(0))

    def start_from(self, prompt: Prompt) -> None:
        """Refused: from one start all prompts would learn the same.

        Raises:
            MethodError: always.
        """
        del prompt
        raise MethodError("the prompts of a mixture cannot all start from one prompt: they would all learn the same")


def _all_alike(prompts: Sequence[Prompt]) -> bool:
    """Whether there are several and all have the same numbers; of shapes without numbers nothing can be said."""
    first, *others = map(_tensors, prompts)
    if not others or any(tensor.is_meta for tensor in first):
        return False
    return all(torch.equal(*pair) for other in others for pair in zip(first, other, strict=True))


def _tensors(prompt: Prompt) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    prompt.map(keep)
    return found
