"""P-Tuning v2: trained keys and values in front of the text at every layer, or a choice of layers.

Source: Liu et al. 2022, 'P-Tuning v2: Prompt Tuning Can Be Comparable to Fine-tuning Universally
Across Scales and Tasks', sections 3.2 and 3.3. Departures from the authors' code: any set of
layers (their paper's Figure 3, never in their code), positions of the text are not shifted, and
the MLP is folded away after training.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt, field_validator
from torch import nn

from foreword.errors import MethodError
from foreword.injection import KeyValue, Prompt, Site, SiteShape
from foreword.methods.base import Host, Method, PromptEncoder
from foreword.methods.reparameterization import MLP, Direct

_INTERVAL = re.compile(r"(\d{1,6})(?:-(\d{1,6}))?")


class PTuningV2(Method):
    """Settings of P-Tuning v2."""

    name: ClassVar[str] = "ptuning-v2"
    summary: ClassVar[str] = "keys and values before the text at every layer (Liu et al. 2022)"

    prompt_length: PositiveInt = 20
    """P, prompt positions per layer. Classification likes fewer than 20, tagging about 100 (section 3.3)."""
    layers: Literal["all"] | tuple[int, ...] | str = "all"
    """'all', an interval such as '3-5' (counted from 0, both ends in), or a list such as [0, 2, 5]."""
    reparameterization: Literal["direct", "mlp"] = "direct"
    """Train the prompt itself, or an MLP that makes it and is folded away afterwards."""
    mlp_hidden: PositiveInt = 512
    """Width of the MLP's hidden layer."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability with which single numbers of the prompt are dropped while training."""
    init_scale: PositiveFloat = 0.02
    """Standard deviation of the normal distribution the prompt starts from."""

    @property
    def default_learning_rate(self) -> float:
        """3e-2 for direct prompts, by measurement (docs/log.md); the papers' 1e-4 for the MLP."""
        return 3e-2 if self.reparameterization == "direct" else 1e-4

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> PrefixEncoder:
        """A prompt for the chosen layers of every stack."""
        del labels
        layers = self._layers(1 + max(site.layer for site in backbone.sites))
        chosen = {site: shape for site, shape in backbone.sites.items() if site.layer in layers}
        return PrefixEncoder(self, chosen, backbone.hidden_size)

    @field_validator("layers", mode="before")
    @classmethod
    def _text_or_numbers(cls, value: Any) -> Any:
        """One message for what is of no type that a choice of layers could have."""
        if isinstance(value, str) or (isinstance(value, list | tuple) and all(type(item) is int for item in value)):
            return value
        raise ValueError("expected 'all', an interval such as '3-5', or a list of whole numbers such as [0, 2]")

    def _layers(self, count: int) -> Sequence[int]:
        """The layer numbers meant by ``layers``, checked against a backbone of ``count`` layers."""
        match self.layers:
            case "all":
                return tuple(range(count))
            case str() as text:
                interval = _INTERVAL.fullmatch(text)
                if interval is None:
                    raise MethodError(f"method.layers: '{text}' is neither 'all', an interval like '3-5', nor a list")
                wanted: Sequence[int] = range(int(interval[1]), int(interval[2] or interval[1]) + 1)
            case _:
                wanted = sorted(set(self.layers))
        if not wanted or wanted[0] < 0 or wanted[-1] >= count:
            raise MethodError(
                f"method.layers: {self.layers!r} does not fit a backbone whose layers are 0 to {count - 1}"
            )
        return wanted


class PrefixEncoder(PromptEncoder):
    """One matrix ``(P, 2 * sum over sites of H * E)``, cut into keys and values per site.

    Args:
        settings: lengths, reparameterization, dropout and start.
        sites: the sites this prompt covers.
        hidden_size: D, width of the MLP's embeddings.
    """

    def __init__(self, settings: PTuningV2, sites: Mapping[Site, SiteShape], hidden_size: int) -> None:
        super().__init__()
        self.sites = dict(sites)
        columns = 2 * sum(shape.heads * shape.head_size for shape in sites.values())
        if settings.reparameterization == "direct":
            self.prompt: nn.Module = Direct(settings.prompt_length, columns, settings.init_scale)
        else:
            self.prompt = MLP(settings.prompt_length, columns, hidden_size, settings.mlp_hidden, settings.init_scale)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self) -> Prompt:
        """Keys and values ``(H, P, E)`` per site, with dropout while training."""
        matrix = self.dropout(self.prompt())  # (P, columns)
        widths = [size for shape in self.sites.values() for size in [shape.heads * shape.head_size] * 2]
        pieces = iter(torch.split(matrix, widths, dim=1))
        prefix: dict[Site, KeyValue] = {}
        for site, shape in self.sites.items():
            key, value = (
                next(pieces).reshape(-1, shape.heads, shape.head_size).transpose(0, 1)  # (H, P, E)
                for _ in range(2)
            )
            prefix[site] = KeyValue(key, value)
        return Prompt(prefix)
