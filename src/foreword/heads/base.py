"""What a head is: hidden states of text positions to logits."""

from __future__ import annotations

from torch import Tensor, nn


class Head(nn.Module):
    """Small, trained with every method and saved beside the prompt."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Logits.

        Args:
            hidden: ``(B, T, D)``.
            mask: ``(B, T)``, nonzero for real tokens.
        """
        del hidden, mask
        raise TypeError(f"{type(self).__name__} does not say how it reads hidden states")
