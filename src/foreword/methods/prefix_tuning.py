"""Prefix-tuning: keys and values before the text at every layer of every stack, made by MLPs.

Source: Li & Liang 2021, 'Prefix-Tuning: Optimizing Continuous Prompts for Generation', sections 4.2
and 4.3 (the method), 7.2 (embedding-only), 7.3 (infix) and 7.4 (start from real words). As in their
code each of the three kinds of attention of an encoder-decoder has a prefix, an embedding and an MLP
of its own. Departures from it: positions are shifted only where asked for, and a start from real
words is reached exactly instead of by 500 steps of an optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from foreword.errors import MethodError
from foreword.injection import Anchor, InputPrompt, Prompt
from foreword.methods.base import Host, Method, PromptEncoder
from foreword.methods.making.activations import Init, check_init, start_prefix, start_tokens
from foreword.methods.making.initializers import input_width
from foreword.methods.making.prefix import PrefixEncoder, prefix_columns
from foreword.methods.making.reparameterization import MLP, Direct, Kind, reparameterized


class PrefixTuning(Method):
    """Settings of prefix-tuning."""

    name: ClassVar[str] = "prefix-tuning"
    summary: ClassVar[str] = "keys and values at every layer, made by an MLP (Li & Liang 2021)"

    prompt_length: PositiveInt = 10
    """P, prompt positions per layer: 5 to 10 for texts from tables, 100 to 200 for summaries (section 7.1)."""
    reparameterization: Kind = "mlp"
    """An MLP that makes the prefix and is folded away afterwards, or the prefix itself: unstable, says section 4.3."""
    mlp_hidden: PositiveInt = 512
    """Width of the MLP's hidden layer: 512 for texts from tables, 800 for summaries (section 5)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which single numbers of the prefix are dropped while training."""
    init: Init = "normal"
    """Start from normal random numbers, or from the keys and values that the bare backbone computes for real
    tokens: those of init_text, or frequent ones sampled from its vocabulary."""
    init_text: str | None = None
    """The text of init = 'text', repeated or cut to the prefix's length."""
    init_scale: PositiveFloat = 1.0
    """Standard deviation of the normal distribution the MLP's embeddings (or a direct prefix) start from."""
    placement: Literal["prefix", "infix"] = "prefix"
    """Before the text, or behind the given text and before what is generated: for decoders (section 7.3)."""
    embedding_only: bool = False
    """Put vectors before the input embeddings instead of keys and values into every layer (section 7.2)."""
    shift_positions: bool = False
    """Count the text's positions from P on, as the authors' code for GPT-2 does. A row then has P fewer for text."""

    @property
    def default_learning_rate(self) -> float:
        """The paper's 5e-5, for the MLP and without it (section 5)."""
        return 5e-5

    @property
    def positions_taken(self) -> int:
        """P where positions are shifted, and where vectors stand among the embeddings."""
        return self.prompt_length if self.shift_positions or self.embedding_only else 0

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> PrefixSets | EmbeddingsEncoder:
        """A prefix for every layer, with parameters of its own for each stack."""
        del labels
        if self.embedding_only:
            return self._embeddings(backbone)
        stacks = list(dict.fromkeys(site.stack for site in backbone.sites))
        if self.placement == "infix" and stacks != ["decoder"]:
            raise MethodError(
                "method.placement: an infix stands between the given text and the one that is generated, which only "
                f"a decoder reads in one sequence; this backbone has: {', '.join(stacks)}"
            )
        sets = {stack: self._set(backbone, stack) for stack in stacks}
        encoder = PrefixSets(sets)
        if self.init != "normal":
            prefix = start_prefix(backbone, self.prompt_length, self.init_text)
            for one in sets.values():
                one.start_at(prefix)
        return encoder

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check_init(self.init, self.init_text)
        if self.embedding_only and self.placement == "infix":
            raise ValueError("embedding_only has no infix: what is generated would be read off the vectors themselves")
        if self.embedding_only and self.shift_positions:
            raise ValueError("embedding_only vectors have positions of their own; there is nothing to shift")
        return self

    def _set(self, backbone: Host, stack: str) -> PrefixEncoder:
        sites = {site: shape for site, shape in backbone.sites.items() if site.stack == stack}
        return PrefixEncoder(
            self._matrix(backbone, prefix_columns(sites)),
            sites,
            dropout=self.dropout,
            shift_positions=self.shift_positions,
            infix=self.placement == "infix",
        )

    def _embeddings(self, backbone: Host) -> EmbeddingsEncoder:
        encoder = EmbeddingsEncoder(self._matrix(backbone, input_width(backbone)), self.dropout)
        if self.init != "normal":
            ids = start_tokens(backbone, self.prompt_length, self.init_text)
            encoder.start_at(backbone.embed(torch.tensor(ids, dtype=torch.long)))
        return encoder

    def _matrix(self, backbone: Host, columns: int) -> Direct | MLP:
        return reparameterized(
            self.reparameterization,
            self.prompt_length,
            columns,
            width=backbone.hidden_size,
            hidden=self.mlp_hidden,
            scale=self.init_scale,
        )


class PrefixSets(PromptEncoder):
    """A prefix for each stack, of one length.

    Args:
        sets: stack -> the encoder of its prefix.
    """

    def __init__(self, sets: Mapping[str, PrefixEncoder]) -> None:
        super().__init__()
        self.sets = nn.ModuleDict(sets)

    @property
    def encoders(self) -> dict[str, PrefixEncoder]:
        """Stack -> encoder, as given."""
        return {stack: encoder for stack, encoder in self.sets.items() if isinstance(encoder, PrefixEncoder)}

    def forward(self) -> Prompt:
        """All of them as one prompt."""
        prompts: list[Prompt] = [encoder() for encoder in self.encoders.values()]
        prefix = {site: pair for prompt in prompts for site, pair in prompt.prefix.items()}
        return Prompt(prefix, shift_positions=prompts[0].shift_positions, infix=prompts[0].infix)

    def start_from(self, prompt: Prompt) -> None:
        """Take what there is for each stack; a stack that the prompt does not cover keeps its own start."""
        covered = {site.stack for site in prompt.prefix}
        encoders = self.encoders
        for stack, encoder in encoders.items():
            if stack in covered or covered.isdisjoint(encoders):  # the latter is refused there
                encoder.start_from(prompt)


class EmbeddingsEncoder(PromptEncoder):
    """Vectors before the text, out of a matrix ``(P, W)``.

    Args:
        prompt: makes the matrix.
        dropout: of single numbers, while training.
    """

    def __init__(self, prompt: Direct | MLP, dropout: float) -> None:
        super().__init__()
        self.prompt = prompt
        self.dropout = nn.Dropout(dropout)

    def forward(self) -> Prompt:
        """The vectors, with dropout while training."""
        vectors = self.dropout(self.prompt())
        return Prompt(inputs=InputPrompt(vectors, (Anchor.FRONT,) * len(vectors)))

    def start_from(self, prompt: Prompt) -> None:
        """Take the first vectors, wherever they stood."""
        given, width = prompt.inputs, self.prompt().shape[1]
        if given is None or prompt.prefix or given.deltas:
            raise MethodError("vectors before the text cannot start from a prompt with keys and values, or with deltas")
        if given.vectors.shape[1] != width:
            raise MethodError(
                f"the prompt to start from has vectors of {given.vectors.shape[1]} numbers, "
                f"the backbone embeddings of {width}"
            )
        self.start_at(given.vectors)

    @torch.no_grad()
    def start_at(self, vectors: Tensor) -> None:
        """Make ``vectors`` come out first, where there are numbers."""
        matrix = self.prompt().detach().clone()
        if matrix.is_meta or vectors.is_meta:
            return
        matrix[: len(vectors)].copy_(vectors[: len(matrix)])
        self.prompt.start(matrix)
