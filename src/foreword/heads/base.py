"""What a head is: hidden states of text positions, or what a language model makes of one of them, to logits."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

Reads = Literal["hidden", "features", "vocabulary", "continuation"]


class Vocabulary(Protocol):
    """What a head may know of a backbone whose vocabulary it reads."""

    name: str
    kind: Any
    language_model: bool

    @property
    def depth(self) -> int:
        """N, layers whose hidden states a head can read."""

    @property
    def tokenizer(self) -> Any:
        """The backbone's fast tokenizer."""

    @property
    def output_embeddings(self) -> Tensor:
        """``(V, W)``, one row per token."""


class Head(nn.Module):
    """Small, trained with every method and saved beside the prompt.

    Attributes:
        reads: what it is given: the 'hidden' states of a text, ``(B, T, D)``; or, of the one position where a
            word answers, the 'features' that output embeddings read, ``(B, W)``, or the logits of the whole
            'vocabulary', ``(B, V)``; or the logits ``(B, U, V)`` of every token of a 'continuation' that is given
            (`data.batching.WRITTEN`).
        every_layer: whether its hidden states are those of the embeddings and of all N layers side by side,
            ``(B, T, (N + 1) D)``.
        class_axis: along which the logits are of things of which one is chosen: the last, of classes, or 1, of
            positions. A softmax along it gives probabilities. None where every output is a number by itself.
        stackable: whether a batch of many such heads may ask them in one pass, each row its own (`torch.func.vmap`).
    """

    reads: ClassVar[Reads] = "hidden"
    every_layer: bool = False
    class_axis: int | None = -1
    stackable: ClassVar[bool] = True

    def forward(self, hidden: Tensor, mask: Tensor, marks: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            hidden: ``(B, T, D)``, or what else it `reads`.
            mask: ``(B, T)``, nonzero for real tokens.
            marks: ``(B, T)``, numbers of marked stretches (`Encoded.marks`), for heads that read them.
        """
        del hidden, mask, marks
        raise TypeError(f"{type(self).__name__} does not say how it reads hidden states")
