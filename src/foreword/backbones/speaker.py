"""The vocabulary head of a backbone that was loaded with it: from hidden states to words."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from foreword.backbones.families import FAMILIES, Kind
from foreword.errors import BackboneError


class Speaker(nn.Module):
    """What a backbone can say, where it has its vocabulary head.

    Attributes:
        name: where it came from.
        family: its line in the table of families.
        kind: what it reads and writes.
        model: with its vocabulary head where ``language_model`` says so.
        tokenizer: its fast tokenizer.
    """

    name: str
    family: str
    kind: Kind
    model: Any
    tokenizer: Any
    language_model: bool

    @property
    @abstractmethod
    def trunk(self) -> Any:
        """The part that reads text."""

    @property
    @abstractmethod
    def vocabulary_size(self) -> int:
        """V, rows of the input embeddings."""

    @property
    def output_embeddings(self) -> Tensor:
        """Output embeddings of the vocabulary head, ``(V, W)``; the input's own where it has no others.

        Raises:
            BackboneError: it was loaded without one.
        """
        self._check_language_model()
        layer = self.model.get_output_embeddings()
        if layer is None or len(layer.weight) != self.vocabulary_size:  # DeBERTa-v2 names its transform here
            layer = self.trunk.get_input_embeddings()
        weight: Tensor = layer.weight
        return weight

    def vocabulary_features(self, hidden: Tensor) -> Tensor:
        """What the output embeddings read, ``(..., W)``, from hidden states ``(..., D)``.

        Raises:
            BackboneError: it was loaded without a vocabulary head.
        """
        self._check_language_model()
        transform = FAMILIES[self.family].transform
        assert transform is not None  # else nobody could load its language model
        return transform(self.model, hidden.to(self.model.dtype))

    def vocabulary_logits(self, features: Tensor) -> Tensor:
        """Logits of all tokens, ``(..., V)``, from what the output embeddings read.

        Raises:
            BackboneError: it was loaded without a vocabulary head.
        """
        self._check_language_model()
        project = FAMILIES[self.family].project
        assert project is not None
        return project(self.model, features)

    def answer_positions(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Where each row says its word, ``(B,)``: at its mask token, or of a decoder at its last real token."""
        places = attention_mask.bool()
        if self.kind != "decoder":
            places = places & (input_ids == self.tokenizer.mask_token_id)
        return places.shape[1] - 1 - places.flip(1).int().argmax(1)

    def _check_language_model(self) -> None:
        if not self.language_model:
            raise BackboneError(f"{self.name}: was loaded without its language model (language_model = true)")
