"""A frozen transformer with a place for prompts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from foreword.backbones.attention import KEYWORD, PrefixCall, Probe
from foreword.backbones.dropout import ByteDropout, use_byte_dropout
from foreword.backbones.embedding import Layout, lay_out
from foreword.backbones.families import FAMILIES
from foreword.backbones.fingerprint import tokenizer_digest, weights_digest
from foreword.backbones.sites import Sites, find_sites, watch_layers
from foreword.errors import BackboneError
from foreword.injection import Injection, Prefix, RowInputs, Site, SiteShape


@dataclass(frozen=True)
class BackboneIdentity:
    """Which backbone an artifact was made for.

    Attributes:
        name: hub name or folder, as the user gave it.
        revision: hub revision, or None for a folder.
        family: `transformers` model type, such as "bert".
        weights: sha256 over names, shapes and bytes of all weights of the trunk.
        language_model: the same of the whole language model, None where it was loaded without.
        dtype: of the weights, such as "float32".
        tokenizer: sha256 of the tokenizer's serialized form, without the settings of its last call.
    """

    name: str
    revision: str | None
    family: str
    weights: str
    language_model: str | None
    dtype: str
    tokenizer: str


class Backbone(nn.Module):
    """A pretrained transformer, its tokenizer, and the places where it reads prompts.

    It knows no method and no task: token ids and an `Injection` in, hidden states of the text
    positions out. It is frozen and in evaluation mode until someone says otherwise by name
    (`regularize`, `unfreeze`).

    Args:
        model: a `transformers` model whose attention runs through the seam; with its vocabulary head
            where ``language_model`` says so.
        tokenizer: its fast tokenizer.
        name, revision: where it came from.
        family: its line in the table of families, and the word for it.
        max_length: the most positions of one row, special tokens included.
        language_model: whether ``model`` has its vocabulary head (and, of an encoder-decoder, its decoder).

    Attributes:
        trunk: the part of ``model`` that reads text: all of it but the vocabulary head, and of an
            encoder-decoder the encoder.
        tuned: whether its weights were ever given free, so that they may differ from those published.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        revision: str | None,
        family: str,
        max_length: int,
        language_model: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.revision, self.family, self.max_length = name, revision, family, max_length
        self.kind = FAMILIES[family].kind
        self.language_model = language_model
        if self.kind == "encoder-decoder" and not language_model:
            model = model.get_encoder()
        use_byte_dropout(model)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._sites = self._find_sites()
        self._recomputes = False
        self.tuned = False
        self.regularize()
        self.freeze()

    def _find_sites(self) -> Sites:
        decoder = "decoder" if self.kind == "decoder" else "encoder"
        sites = find_sites(lambda call: self._probe(call, 3), lambda _: decoder)
        if not sites.shapes:
            raise BackboneError(
                f"{self.name}: the attention of this {self.family} model cannot be reached through the attention "
                "interface of transformers. Run `foreword backbones` for the families that can be used"
            )
        watch_layers(self.trunk, sites)
        if self.kind != "encoder-decoder" or not self.language_model:
            return sites
        stacks = {(2, 2): "decoder", (2, 3): "cross", (3, 3): "encoder"}
        return find_sites(lambda call: self._probe(call, 3, 2), lambda found: stacks[found.queries, found.keys])

    def _probe(self, call: PrefixCall, length: int, written: int = 0) -> None:
        """Run the trunk over ``length`` tokens, and the decoder over ``written``, for what the call learns by it."""
        ids = torch.zeros((1, length), dtype=torch.long, device=self.device)
        self._run_ids(call, ids, ids[:, :written] if written else None)

    def _run_ids(self, call: PrefixCall, ids: Tensor, written: Tensor | None) -> None:
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if written is None:
            FAMILIES[self.family].run(self.trunk, inputs, call)
        else:
            self.model(**inputs, decoder_input_ids=written, **{KEYWORD: call})

    @property
    def trunk(self) -> Any:
        """The part that reads text."""
        if not self.language_model:
            return self.model
        return self.model.get_encoder() if self.kind == "encoder-decoder" else self.model.base_model

    @property
    def sites(self) -> Mapping[Site, SiteShape]:
        """Every attention site, and the sizes of a prefix there."""
        return self._sites.shapes

    @property
    def embedding_size(self) -> int:
        """W, width of the input embeddings; not D in ALBERT and ELECTRA."""
        return int(self.trunk.get_input_embeddings().weight.shape[1])

    @property
    def vocabulary_size(self) -> int:
        """V, rows of the input embeddings."""
        return int(self.trunk.get_input_embeddings().weight.shape[0])

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids, ``(..., W)``, as the layers would get them but for positions and types."""
        embedded: Tensor = self.trunk.get_input_embeddings()(ids)
        return embedded

    @torch.no_grad()
    def activations(self, ids: Sequence[int]) -> Prefix:
        """Keys and values that the bare model computes for a text, at every site: ``(H, len(ids), E)``.

        Args:
            ids: token ids. A decoder that follows an encoder is given them too.
        """
        probe = Probe()
        row = torch.tensor([list(ids)], device=self.device)
        self._run_ids(probe, row, row if self.kind == "encoder-decoder" and self.language_model else None)
        return probe.activations(list(self.sites))

    @property
    def hidden_size(self) -> int:
        """D, width of the hidden states."""
        config = self.trunk.config
        return int(getattr(config, "hidden_size", None) or config.d_model)

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
            weights=weights_digest(self.trunk),
            language_model=weights_digest(self.model) if self.language_model else None,
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

        A row does not depend on its padding, whatever side it is on: positions count real tokens and the
        vectors of an input prompt.

        Args:
            input_ids: ``(B, T)`` int64.
            attention_mask: ``(B, T)``, nonzero for real tokens.
            token_type_ids: ``(B, T)`` segment numbers, for families that have them; the vectors of an
                input prompt are in segment 0.
            injection: prompts of the batch, or None for the bare model.

        Returns:
            ``(B, T, D)``.

        Raises:
            BackboneError: text and prompt have more positions than the model, or the model cannot place them.
        """
        prompts = None if injection is None else injection.inputs()
        layout = None
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if prompts is not None or not bool(attention_mask[:, 0].all()):
            layout = lay_out(input_ids, attention_mask, prompts, self.tokenizer)
            inputs = self._laid_out(layout, inputs, prompts)
        if injection is not None:
            inputs |= self._positions(inputs["attention_mask"], injection)
        sources = attention_mask.sum(1) if layout is None else layout.mask.sum(1)
        slots = None if layout is None or prompts is None else layout.slots
        call = PrefixCall(self._sites.of, injection, self.attention_dropout, slots=slots, sources=sources)
        hidden = FAMILIES[self.family].run(self.trunk, inputs, call)
        return hidden if layout is None else layout.of_text(hidden)

    def _laid_out(self, layout: Layout, inputs: dict[str, Any], prompts: RowInputs | None) -> dict[str, Any]:
        """The model's inputs with prompt vectors in their places and all padding behind."""
        ids = inputs["input_ids"]
        nothing = ids.new_zeros((ids.shape[0], layout.slots.shape[1]))
        out: dict[str, Any] = {"attention_mask": layout.mask}
        if "token_type_ids" in inputs:
            out["token_type_ids"] = layout.arranged(inputs["token_type_ids"], nothing)
        if prompts is None:
            out["input_ids"] = layout.arranged(ids, nothing)
        else:
            vectors = prompts.vectors.expand(ids.shape[0], -1, -1)
            out["inputs_embeds"] = layout.arranged(self.embed(ids), vectors)
        return out

    def _positions(self, mask: Tensor, injection: Injection) -> dict[str, Tensor]:
        """Position numbers, where a prompt of the batch shifts them; and a check that all of them exist."""
        length, shift = mask.shape[1], 0
        shifts = None
        if any(prompt.shift_positions for prompt in injection.bank):
            shifts = injection.flags(lambda prompt: prompt.length if prompt.shift_positions else 0, mask.device)
            shift = int(shifts.max())
        if length + shift > self.max_length:
            raise BackboneError(
                f"{self.name}: text and prompt of a row take {length + shift} positions, the model has "
                f"{self.max_length}. Shorten the text (training.max_length) or the prompt (method.prompt_length)"
            )
        if shifts is None:
            return {}
        if "position_ids" not in inspect.signature(self.trunk.forward).parameters:
            raise BackboneError(f"{self.name}: positions of a {self.family} model cannot be shifted")
        first = FAMILIES[self.family].first_position(self.trunk.config)
        return {"position_ids": torch.arange(length, device=mask.device) + first + shifts[:, None]}

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
