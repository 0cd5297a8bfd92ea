"""P-Tuning v2: trained keys and values in front of the text at every layer, or a choice of layers.

Source: Liu et al. 2022, 'P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally
Across Scales and Tasks', sections 3.2 and 3.3; the gate is that of Zhang et al. 2023 (LLaMA-Adapter),
section 3.2, one per head. Departures from the authors' code: any set of layers (their paper's Figure
3, never in their code), positions of the text are shifted only where asked for, a prompt may start
from real tokens, and the MLP is folded away after training.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from foreword.errors import MethodError
from foreword.injection import Site, SiteShape
from foreword.methods.base import Host, Method
from foreword.methods.making.activations import Init, check_init, start_prefix
from foreword.methods.making.prefix import PrefixEncoder, prefix_columns
from foreword.methods.making.reparameterization import Kind, reparameterized

_INTERVAL = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")
_END = re.compile(r"(top|bottom)-(\d{1,6})")


class PTuningV2(Method):
    """Settings of P-Tuning v2."""

    name: ClassVar[str] = "ptuning-v2"
    summary: ClassVar[str] = "keys and values before the text at every layer (Liu et al. 2022)"
    first_defaults: ClassVar[Mapping[str, Any]] = {"dropout": 0.1, "init_scale": 0.02}

    prompt_length: PositiveInt = 20
    """P, prompt positions per layer. Classification likes fewer than 20, tagging about 100 (section 3.3)."""
    layers: Literal["all"] | tuple[int, ...] | str = "all"
    """'all', 'top-8' (those nearest to the output), 'bottom-8', an interval such as '3-5' (counted from 0, both
    ends in), or a list such as [0, 2, 5]."""
    reparameterization: Kind = "direct"
    """Train the prompt itself, or an MLP that makes it and is folded away afterwards."""
    mlp_hidden: PositiveInt = 512
    """Width of the MLP's hidden layer."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which single numbers of the prompt are dropped while training."""
    init: Init = "normal"
    """Start from normal random numbers, or from the keys and values that the bare backbone computes for real
    tokens: those of init_text, or frequent ones sampled from its vocabulary."""
    init_text: str | None = None
    """The text of init = 'text', repeated or cut to the prompt's length."""
    init_scale: PositiveFloat = 1.0
    """Standard deviation of the normal distribution the prompt starts from (with the MLP, its embeddings). Small
    numbers let all positions learn the same (docs/studies)."""
    gate: bool = False
    """Give the prompt a softmax of its own, and every head a learned share of it that starts at none."""
    shift_positions: bool = False
    """Count the text's positions from P on, as the authors' code and HF PEFT do. A row then has P fewer for text."""

    @property
    def default_learning_rate(self) -> float:
        """3e-2 for direct prompts, by measurement (docs/log.md); the papers' 1e-4 for the MLP."""
        return 3e-2 if self.reparameterization == "direct" else 1e-4

    @property
    def positions_taken(self) -> int:
        """P where positions are shifted."""
        return self.prompt_length if self.shift_positions else 0

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> PrefixEncoder:
        """A prompt for the chosen layers of every stack."""
        del labels
        sites = self._sites(backbone.sites)
        matrix = reparameterized(
            self.reparameterization,
            self.prompt_length,
            prefix_columns(sites),
            width=backbone.hidden_size,
            hidden=self.mlp_hidden,
            scale=self.init_scale,
        )
        shifted = self.shift_positions
        encoder = PrefixEncoder(matrix, sites, dropout=self.dropout, gated=self.gate, shift_positions=shifted)
        if self.init != "normal":
            encoder.start_at(start_prefix(backbone, self.prompt_length, self.init_text))
        return encoder

    @field_validator("layers", mode="before")
    @classmethod
    def _text_or_numbers(cls, value: Any) -> Any:
        """One message for what is of no type that a choice of layers could have."""
        if isinstance(value, str) or (isinstance(value, list | tuple) and all(type(item) is int for item in value)):
            return value
        raise ValueError("expected 'all', an interval such as '3-5', or a list of whole numbers such as [0, 2]")

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        check_init(self.init, self.init_text)
        return self

    def _sites(self, sites: Mapping[Site, SiteShape]) -> dict[Site, SiteShape]:
        """Those of the chosen layers, which are counted in each stack."""
        depths = {site.stack: 0 for site in sites}
        for site in sites:
            depths[site.stack] = max(depths[site.stack], site.layer + 1)
        layers = {stack: self._layers(depth, max(depths.values())) for stack, depth in depths.items()}
        return {site: shape for site, shape in sites.items() if site.layer in layers[site.stack]}

    def _layers(self, depth: int, deepest: int) -> Collection[int]:
        """The layer numbers meant by ``layers`` in a stack of ``depth``, where the deepest has ``deepest``."""
        wanted: Sequence[int]
        match self.layers:
            case "all":
                return range(depth)
            case str() as text:
                if (end := _END.fullmatch(text)) is not None:
                    count = int(end[2])
                    # One too many reaches below 0, or past the end: refused below.
                    wanted = range(depth - count, depth) if end[1] == "top" else range(count)
                    deepest = depth
                elif (interval := _INTERVAL.fullmatch(text)) is not None:
                    wanted = range(int(interval[1]), int(interval[2] or interval[1]) + 1)
                else:
                    raise MethodError(
                        f"method.layers: '{text}' is neither 'all', an interval like '3-5', 'top-8' or 'bottom-8', "
                        "nor a list"
                    )
            case _:
                wanted = sorted(set(self.layers))
        if not wanted or wanted[0] < 0 or wanted[-1] >= deepest:
            raise MethodError(
                f"method.layers: {self.layers!r} does not fit a backbone whose layers are 0 to {deepest - 1}"
            )
        return wanted
