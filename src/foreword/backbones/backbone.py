"""A frozen transformer with a place for prompts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from foreword.backbones.attention import KEYWORD, PrefixCall, find_sites
from foreword.backbones.dropout import ByteDropout, use_byte_dropout
from foreword.backbones.fingerprint import tokenizer_digest, weights_digest
from foreword.errors import BackboneError
from foreword.injection import Injection, Site, SiteShape


@dataclass(frozen=True)
class BackboneIdentity:
    """Which backbone an artifact was made for.

    Attributes:
        name: hub name or folder, as the user gave it.
        revision: hub revision, or None for a folder.
        family: `transformers` model type, such as "bert".
        weights: sha256 over names, shapes and bytes of all weights.
        dtype: of the weights, such as "float32".
        tokenizer: sha256 of the tokenizer's serialized form, without the settings of its last call.
    """

    name: str
    revision: str | None
    family: str
    weights: str
    dtype: str
    tokenizer: str


class Backbone(nn.Module):
    """A pretrained encoder, its tokenizer, and the sites where it reads prefixes.

    It knows no method and no task: token ids and an `Injection` in, hidden states of the text
    positions out. It is frozen and in evaluation mode until someone says otherwise by name
    (`regularize`, `unfreeze`).

    Args:
        model: a `transformers` model whose attention runs through the seam.
        tokenizer: its fast tokenizer.
        name, revision, family: where it came from.
        max_length: the most tokens it can read in one row, special tokens included.

    Attributes:
        tuned: whether its weights were ever given free, so that they may differ from those published.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, name: str, revision: str | None, family: str, max_length: int
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.name, self.revision, self.family, self.max_length = name, revision, family, max_length
        use_byte_dropout(model)
        found = find_sites(model)
        if not found or len({module for module, _ in found}) < len(found):
            raise BackboneError(
                f"{name}: the attention of this {family} model cannot be reached through the attention "
                "interface of transformers. Run `foreword backbones` for the families that can be used"
            )
        self._site_of: dict[nn.Module, Site] = {
            module: Site("encoder", layer) for layer, (module, _) in enumerate(found)
        }
        self.sites: dict[Site, SiteShape] = {Site("encoder", layer): shape for layer, (_, shape) in enumerate(found)}
        self._recomputes = False
        self.tuned = False
        self.regularize()
        self.freeze()

    @property
    def hidden_size(self) -> int:
        """D, width of the hidden states."""
        return int(self.model.config.hidden_size)

    @property
    def parameter_count(self) -> int:
        """Number of weights, frozen or not."""
        return sum(p.numel() for p in self.model.parameters())

    @cached_property
    def identity(self) -> BackboneIdentity:
        """What artifacts made for this backbone must match. Read it before any weight is tuned."""
        return BackboneIdentity(
            name=self.name,
            revision=self.revision,
            family=self.family,
            weights=weights_digest(self.model),
            dtype=str(self.model.dtype).removeprefix("torch."),
            tokenizer=tokenizer_digest(self.tokenizer),
        )

    def freeze(self) -> None:
        """Stop training the backbone's weights (the state it is born in)."""
        self.model.requires_grad_(False)

    def unfreeze(self) -> None:
        """Make every weight trainable, as full fine-tuning needs.

        From here on the backbone is not what its `identity` says, and no prompt is made or used on it.
        """
        self.identity  # noqa: B018  taken while it is true
        self.tuned = True
        self.model.requires_grad_(True)

    def regularize(self, *, hidden: float = 0.0, attention: float = 0.0) -> None:
        """Choose the dropout that runs inside the backbone while training.

        A frozen backbone needs none to be frozen, and attention dropout takes attention off its
        fast path; yet on small data dropout keeps prompts from overfitting. So it is a choice.

        Args:
            hidden: probability for embeddings and sub-layer outputs.
            attention: probability for attention weights.
        """
        self.hidden_dropout, self.attention_dropout = hidden, attention
        for module in self.model.modules():
            if isinstance(module, ByteDropout):
                module.p = hidden

    def train(self, mode: bool = True) -> Backbone:
        """Enter or leave training mode.

        Without dropout the model always evaluates, unless it recomputes activations: transformers
        does so in training mode only, and then no dropout is there to change a result.
        """
        super().train(mode)
        drops = self.hidden_dropout > 0 or self.attention_dropout > 0
        self.model.train(mode and (drops or self._recomputes))
        return self

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        injection: Injection | None = None,
    ) -> Tensor:
        """Hidden states of the last layer, for the text positions only.

        Args:
            input_ids: ``(B, T)`` int64.
            attention_mask: ``(B, T)``, nonzero for real tokens.
            token_type_ids: ``(B, T)`` segment numbers, for families that have them.
            injection: prompts of the batch, or None for the bare model.

        Returns:
            ``(B, T, D)``.
        """
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        inputs[KEYWORD] = PrefixCall(self._site_of, injection, self.attention_dropout)
        hidden: Tensor = self.model(**inputs).last_hidden_state
        return hidden

    def gradient_checkpointing(self, enabled: bool = True) -> None:
        """Trade compute for memory by recomputing activations in the backward pass."""
        self._recomputes = enabled
        verb = "enable" if enabled else "disable"
        switch = getattr(self.model, f"activation_checkpointing_{verb}", None)
        if switch is None:  # its name in the earlier releases of transformers 5
            switch = getattr(self.model, f"gradient_checkpointing_{verb}")
        switch()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device
