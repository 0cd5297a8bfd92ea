"""What a method is: settings that can build a prompt encoder for some attention sites.

A method knows no task and no model family. Its settings are a frozen pydantic model, so the same
class is the recipe's ``[method]`` table, the Python API's constructor, and what an artifact records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from foreword.injection import KeyValue, Prefix, Site, SiteShape


class PromptEncoder(nn.Module):
    """The trainable part of a method: parameters in, one unbatched `Prefix` out."""

    def forward(self) -> Prefix:
        """The prompt as attention reads it, differentiable in the parameters."""
        raise TypeError(f"{type(self).__name__} does not say how its prompt is made")


class FoldedPrompt(PromptEncoder):
    """A finished prompt: plain keys and values, nothing left to compute or to train.

    Args:
        prefix: keys and values per site.
    """

    def __init__(self, prefix: Prefix) -> None:
        super().__init__()
        self._sites = tuple(prefix)
        for site, pair in prefix.items():
            self.register_buffer(_buffer(site, "key"), pair.key.detach().clone(), persistent=False)
            self.register_buffer(_buffer(site, "value"), pair.value.detach().clone(), persistent=False)

    def forward(self) -> Prefix:
        """The prefix it was given."""
        return {
            site: KeyValue(self.get_buffer(_buffer(site, "key")), self.get_buffer(_buffer(site, "value")))
            for site in self._sites
        }


def _buffer(site: Site, part: str) -> str:
    return f"{site.stack}_{site.layer}_{part}"


@torch.no_grad()
def fold(encoder: PromptEncoder) -> Prefix:
    """Run the reparameterization once and keep its result; dropout is off."""
    was_training = encoder.training
    encoder.eval()
    prefix = {
        site: KeyValue(pair.key.detach().clone(), pair.value.detach().clone()) for site, pair in encoder().items()
    }
    encoder.train(was_training)
    return prefix


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

    def build(self, sites: Mapping[Site, SiteShape], hidden_size: int) -> PromptEncoder | None:
        """A fresh prompt encoder, initialized from torch's global generator.

        Args:
            sites: every attention site of the backbone and the sizes it wants.
            hidden_size: D of the backbone.

        Returns:
            None for methods that put nothing before the tokens.

        Raises:
            MethodError: the settings do not fit the backbone.
        """
        del sites, hidden_size
        return None

    @property
    def default_learning_rate(self) -> float:
        """The rate to start from, for what this method trains besides the head."""
        return 1e-3
