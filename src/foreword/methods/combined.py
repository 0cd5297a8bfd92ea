"""Several methods in one model: their prompts one behind the other, and what else each of them does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from pydantic import (
    Field,
    PositiveFloat,
    SerializationInfo,
    field_serializer,
    field_validator,
    model_validator,
)
from torch import nn

from foreword.attachment import Attachment
from foreword.errors import MethodError
from foreword.injection import Prompt
from foreword.methods.base import Carrier, Host, Method, PromptEncoder, fold, single
from foreword.methods.composition import stack, unstack
from foreword.methods.making.nested import NESTS, read_method, table_of


class Combined(Method):
    """Settings of a combination."""

    name: ClassVar[str] = "combined"
    summary: ClassVar[str] = "several of these at once, such as a prompt and LoRA"
    table: ClassVar[Mapping[str, type[Method]]]
    """Where a part's ``type`` is looked up: the table of all methods."""

    parts: tuple[Method, ...] = Field(min_length=2)
    """The methods, each a [[method.parts]] table with a type and its settings. Prompts stand in this order."""
    learning_rates: tuple[PositiveFloat, ...] | None = None
    """Rate of each part. When left out, training.learning_rate is that of all; without it too, each has its own."""

    @property
    def tunes_backbone(self) -> bool:
        """Whether a part does."""
        return any(part.tunes_backbone for part in self.parts)

    @property
    def attaches(self) -> bool:
        """Whether a part does."""
        return any(part.attaches for part in self.parts)

    @property
    def positions_taken(self) -> int:
        """By all parts together."""
        return sum(part.positions_taken for part in self.parts)

    @property
    def default_learning_rate(self) -> float:
        """The lowest of the parts'."""
        return min(part.default_learning_rate for part in self.parts)

    def learning_rate_of(self, parameter: str, chosen: float | None) -> float:
        """That of the part which the parameter belongs to; the lowest of those that change the same backbone."""
        rates = self.learning_rates or [chosen or part.default_learning_rate for part in self.parts]
        match parameter.split("."):
            case ["prompt", "parts", number, *_]:
                return rates[int(number)]
            case ["attachment", *_]:
                return min(rate for rate, part in zip(rates, self.parts, strict=True) if part.attaches)
            case _:
                return min(rate for rate, part in zip(rates, self.parts, strict=True) if part.tunes_backbone)

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> CombinedEncoder | None:
        """The prompts of all parts that have one."""
        encoders = {number: part.build(backbone, labels) for number, part in enumerate(self.parts)}
        prompts = {number: encoder for number, encoder in encoders.items() if encoder is not None}
        for number, part in enumerate(self.parts):
            if number not in prompts and not part.attaches and not part.tunes_backbone:
                raise MethodError(f"method.parts: '{part.name}' trains nothing that could be combined. Leave it out")
        if not prompts:
            return None
        encoder = CombinedEncoder(prompts)
        encoder.check()
        return encoder

    def tuned(self, names: Sequence[str]) -> frozenset[str]:
        """What any part tunes."""
        return frozenset().union(*(part.tuned(names) for part in self.parts))

    def attach(self, backbone: Carrier, attachment: Attachment) -> None:
        """What every part puts into the backbone."""
        for part in self.parts:
            part.attach(backbone, attachment)

    @field_validator("parts", mode="before")
    @classmethod
    def _look_up(cls, parts: Any) -> Any:
        if not isinstance(parts, list | tuple):
            raise ValueError("expected tables, as in [[method.parts]]")  # noqa: TRY004  pydantic's
        return tuple(
            read_method(cls.table, part, f"part {number}: ", without=NESTS) for number, part in enumerate(parts)
        )

    @field_serializer("parts")
    def _tables(self, parts: tuple[Method, ...], info: SerializationInfo) -> list[dict[str, Any]]:
        return [table_of(part, info) for part in parts]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if any(isinstance(part, Combined) for part in self.parts):
            raise ValueError("a combination has no combinations in it: list all their parts")
        if any(part.name in NESTS for part in self.parts):
            raise ValueError("a mixture cannot be part of a combination. Make a mixture 'of' the combination")
        if self.learning_rates is not None and len(self.learning_rates) != len(self.parts):
            raise ValueError(f"{len(self.parts)} parts need as many learning_rates, not {len(self.learning_rates)}")
        return self


class CombinedEncoder(PromptEncoder):
    """Prompts one behind the other.

    Args:
        parts: number of the part in its settings -> its prompt.
    """

    def __init__(self, parts: Mapping[int, PromptEncoder]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({str(number): encoder for number, encoder in parts.items()})

    @property
    def encoders(self) -> list[PromptEncoder]:
        """One per part, in order."""
        return [encoder for encoder in self.parts.values() if isinstance(encoder, PromptEncoder)]

    def forward(self) -> Prompt:
        """Their stack."""
        return stack([single(encoder()) for encoder in self.encoders])

    def start_from(self, prompt: Prompt) -> None:
        """Give each part its piece of a prompt that is as long as all of them together."""
        folded = [single(fold(encoder)) for encoder in self.encoders]
        for encoder, piece in zip(self.encoders, unstack(prompt, folded), strict=True):
            encoder.start_from(piece)

    @torch.no_grad()
    def check(self) -> None:
        """Refuse parts that do not fit together, or would not for long: gates that are trained do not stay the same.

        Raises:
            MethodError: saying what differs.
        """
        shapes = [encoder().map(lambda tensor: tensor.to("meta")) for encoder in self.encoders]
        prefixed = [prompt.prefix for prompt in shapes if prompt.prefix]
        if len(prefixed) > 1 and any(pair.gate is not None for prefix in prefixed for pair in prefix.values()):
            raise MethodError("method.parts: a prefix with a gate cannot be combined with another prefix")
        try:
            stack(shapes)
        except MethodError as error:
            raise MethodError(f"method.parts: {error}") from error
