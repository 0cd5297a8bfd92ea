"""Prompt tuning: trained vectors among the input embeddings.

Source: Lester et al. 2021, 'The Power of Scale for Parameter-Efficient Prompt Tuning', sections 2 and
3.2. Departures: the text is read by a head or a verbalizer as the task says, where the authors always
generate; the vectors may stand elsewhere than in front; labels that do not fit into the prompt are
refused, where the authors' code drops them with a warning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from foreword.errors import MethodError
from foreword.injection import Anchor, InputPrompt, Prompt
from foreword.methods.base import Blueprint, Host, Method, PromptEncoder
from foreword.methods.making.initializers import input_width, label_rows, text_rows, vocabulary_rows

_ANCHORS = {
    "front": Anchor.FRONT,
    "after-first": Anchor.AFTER_FIRST,
    "before-last": Anchor.BEFORE_LAST,
    "end": Anchor.END,
}


class PromptTuning(Method):
    """Settings of prompt tuning."""

    name: ClassVar[str] = "prompt-tuning"
    summary: ClassVar[str] = "vectors among the input embeddings (Lester et al. 2021)"

    prompt_length: PositiveInt = 20
    """P, vectors; each takes a position from the text. The paper's default is 100, with little gain above 20."""
    placement: Literal["front", "after-first", "before-last", "end"] = "front"
    """Before the whole row, after the token that opens it ([CLS]), before the one that closes it, or at the end."""
    init: Literal["uniform", "normal", "vocabulary", "labels", "text"] = "vocabulary"
    """What to start from: random numbers, embeddings of common words, of the task's labels, or of init_text."""
    init_low: float = -0.5
    """Lower end of the uniform distribution: -0.5 in the paper, 0 in its code."""
    init_high: float = 0.5
    """Upper end of the uniform distribution."""
    init_scale: PositiveFloat = 0.02
    """Standard deviation of the normal distribution."""
    init_text: str | None = None
    """Text whose pieces the vectors start from, one each; common words where it is too short, cut where too long."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which single numbers of the prompt are dropped while training."""

    @model_validator(mode="after")
    def _starts_make_sense(self) -> Self:
        if self.init_low >= self.init_high:
            raise ValueError(f"init_low ({self.init_low}) must be below init_high ({self.init_high})")
        if (self.init == "text") != (self.init_text is not None):
            raise ValueError("init = 'text' and init_text go together: set both or neither")
        return self

    @property
    def positions_taken(self) -> int:
        """P."""
        return self.prompt_length

    @property
    def default_learning_rate(self) -> float:
        """By measurement (docs/log.md); the paper's 0.3 is for Adafactor."""
        return 1e-2

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> VectorEncoder:
        """P vectors at one place."""
        return VectorEncoder(
            self._start(backbone, labels), [_ANCHORS[self.placement]] * self.prompt_length, self.dropout
        )

    def _start(self, backbone: Host, labels: Sequence[str]) -> Tensor:
        """``(P, W)``; of a backbone without numbers only the shape, for a start decides nothing else."""
        shape = (self.prompt_length, input_width(backbone))
        if isinstance(backbone, Blueprint):
            return torch.empty(shape, device="meta")
        match self.init:
            case "uniform":
                return torch.empty(shape).uniform_(self.init_low, self.init_high)
            case "normal":
                return torch.randn(shape) * self.init_scale
            case "vocabulary":
                return vocabulary_rows(backbone, self.prompt_length)
            case "labels":
                return label_rows(backbone, labels, self.prompt_length)
            case "text":
                return text_rows(backbone, self.init_text or "", self.prompt_length)


class VectorEncoder(PromptEncoder):
    """The vectors themselves are the parameter.

    Args:
        start: ``(P, W)``.
        anchors: P places.
        dropout: of single numbers, while training.
    """

    def __init__(self, start: Tensor, anchors: Sequence[Anchor], dropout: float) -> None:
        super().__init__()
        self.vectors = nn.Parameter(start)
        self.anchors = tuple(anchors)
        self.dropout = nn.Dropout(dropout)

    def forward(self) -> Prompt:
        """The vectors, with dropout while training."""
        return Prompt(inputs=InputPrompt(self.dropout(self.vectors), self.anchors))

    @torch.no_grad()
    def start_from(self, prompt: Prompt) -> None:
        """Take the first vectors, wherever they stood."""
        given = self._fitting(prompt)
        if given.deltas:
            raise MethodError("the prompt to start from has layer deltas, which this one has no place for")
        self._take(given)

    def _take(self, given: InputPrompt) -> None:
        if self.vectors.is_meta or given.vectors.is_meta:
            return  # a blueprint: there are shapes, and they fit
        rows = given.vectors[: len(self.vectors)]
        self.vectors[: len(rows)].copy_(rows)

    def _fitting(self, prompt: Prompt) -> InputPrompt:
        """The vectors of another prompt, if that is all it has and they are as wide as these."""
        if prompt.inputs is None or prompt.prefix:
            raise MethodError("vectors among the input embeddings cannot start from a prompt with keys and values")
        width, ours = prompt.inputs.vectors.shape[1], self.vectors.shape[1]
        if width != ours:
            raise MethodError(
                f"the prompt to start from has vectors of {width} numbers, the backbone embeddings of {ours}"
            )
        return prompt.inputs
