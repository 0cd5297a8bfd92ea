"""A frozen transformer with a place for prompts."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from foreword.attachment import active_again
from foreword.backbones.attention import Probe
from foreword.backbones.branching import find_branching, first_layer
from foreword.backbones.call import PrefixCall
from foreword.backbones.cutting import run_above
from foreword.backbones.dropout import set_dropout, use_byte_dropout
from foreword.backbones.embedding import Layout, lay_out
from foreword.backbones.families import FAMILIES
from foreword.backbones.fingerprint import BackboneIdentity, tokenizer_digest, weights_digest
from foreword.backbones.inputs import check_prompts, laid_out, positions
from foreword.backbones.packing import Packing, arrangement
from foreword.backbones.probing import find_backbone_sites, run_probe
from foreword.backbones.quantization import Quantization, quantize_linears
from foreword.backbones.sites import layer_numbers, layers_of
from foreword.backbones.speaker import Speaker
from foreword.backbones.trunk import TrunkCache, TrunkCaches
from foreword.errors import BackboneError
from foreword.injection import Injection, Prefix, Prompt, Site, SiteShape


class Backbone(Speaker):
    """A pretrained transformer, its tokenizer, and the places where it reads prompts.

    It knows no method and no task: token ids (or an image) and an `Injection` in, hidden states of
    the text positions out. It is frozen and in evaluation mode until someone says otherwise by name
    (`regularize`, `unfreeze`).

    Args:
        model: a `transformers` model whose attention runs through the seam; with its vocabulary head
            where ``language_model`` says so.
        tokenizer: its fast tokenizer, None where it reads images.
        name, revision: where it came from.
        family: its line in the table of families, and the word for it.
        max_length: the most positions of one row, special tokens included.
        language_model: whether ``model`` has its vocabulary head (and, of an encoder-decoder, its decoder).
        quantization: of the weights; 'int8' is done here, anything else was done while loading.

    Attributes:
        trunk: the part of ``model`` that reads text: all of it but the vocabulary head, and of an
            encoder-decoder the encoder.
        tuned: names of the weights that were ever given free, so that they may differ from those published.
        generation: how often that was done; whoever relies on the weights may see that they were changed since.
        sharded: whether its layers are shared out among processes, which then run it together.
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
        quantization: Quantization | None = None,
    ) -> None:
        super().__init__()
        self.quantization = quantization
        self.name, self.revision, self.family, self.max_length = name, revision, family, max_length
        self.kind = FAMILIES[family].kind
        self.language_model = language_model
        if self.kind == "encoder-decoder" and not language_model:
            model = model.get_encoder()
        use_byte_dropout(model)
        self.model = model.eval()
        self.tokenizer = tokenizer
        self._sites = find_backbone_sites(self)
        self._recomputes = False
        self.tuned: frozenset[str] = frozenset()
        self.generation = 0
        self.sharded = False
        self.regularize()
        self.freeze()
        if quantization == "int8":
            self.identity  # noqa: B018  taken while the weights are those published
            quantize_linears(self.model)

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
    def layers(self) -> Mapping[str, nn.Module]:
        """Those of its `places` that are layers, of every stack, input to output."""
        layers = layers_of(self.model, self._sites).values()
        names = {module: name for name, module in self.places.items()}
        return {names[layer]: layer for layer in layers}

    @cached_property
    def layer_numbers(self) -> Mapping[nn.Module, int]:
        """Layers of the stack that heads read, and the number of each; of shared ones, that of the first turn."""
        return layer_numbers(self.model, self._sites)

    def first_layer(self, prompts: Iterable[Prompt]) -> int:
        """The first layer whose input or attention some prompts change, N where they change none."""
        stack = next(iter(self.sites)).stack
        return min((first_layer(prompt, self.depth, stack) for prompt in prompts), default=self.depth)

    def lowest_layer(self, parts: Iterable[nn.Module | nn.Parameter]) -> int:
        """The first layer that some of its modules or weights belong to: 0 for what is in none, N for nothing."""
        numbers: dict[nn.Module | nn.Parameter, int] = {}
        for layer, number in self.layer_numbers.items():
            numbers |= dict.fromkeys([*layer.modules(), *layer.parameters()], number)
        return min((numbers.get(part, 0) for part in parts), default=self.depth)

    @property
    def places(self) -> Mapping[str, nn.Module]:
        """Every module by its name in ``trunk``, or in ``model`` if it is not part of the trunk.

        So the names are the same with the vocabulary head and without.
        """
        modules = {module: name for name, module in self.model.named_modules()}
        modules |= {module: name for name, module in self.trunk.named_modules()}
        return {name: module for module, name in modules.items() if name}

    @property
    def embedding_size(self) -> int:
        """W, width of the input embeddings; not D in ALBERT and ELECTRA, 0 where images are read."""
        return 0 if self.kind == "image" else int(self.trunk.get_input_embeddings().weight.shape[1])

    @property
    def vocabulary_size(self) -> int:
        """V, rows of the input embeddings; 0 where images are read."""
        return 0 if self.kind == "image" else int(self.trunk.get_input_embeddings().weight.shape[0])

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids, ``(..., W)``, as the layers would get them but for positions and types."""
        embedded: Tensor = self.trunk.get_input_embeddings()(ids.to(self.device))
        return embedded

    @torch.no_grad()
    def activations(self, ids: Sequence[int]) -> Prefix:
        """Keys and values that the bare model computes for a text, at every site: ``(H, len(ids), E)``.

        Args:
            ids: token ids. A decoder that follows an encoder is given them too.
        """
        self._check_reads_text()
        probe = Probe()
        row = torch.tensor([list(ids)], device=self.device)
        run_probe(self, probe, row, row if self.kind == "encoder-decoder" and self.language_model else None)
        return probe.activations(list(self.sites))

    @property
    def hidden_size(self) -> int:
        """D, width of the hidden states."""
        config = self.trunk.config
        return int(getattr(config, "hidden_size", None) or config.d_model)

    @property
    def depth(self) -> int:
        """N, layers of the stack that heads read."""
        first = next(iter(self.sites)).stack
        return 1 + max(site.layer for site in self.sites if site.stack == first)

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
            tokenizer="" if self.tokenizer is None else tokenizer_digest(self.tokenizer),
            quantization=self.quantization,
        )

    def freeze(self) -> None:
        """Stop training the backbone's weights (the state it is born in)."""
        self.model.requires_grad_(False)

    def unfreeze(self, names: Collection[str]) -> None:
        """Make weights trainable, all or some, as fine-tuning and BitFit need.

        From here on the backbone is not what its `identity` says, and no prompt is made or used on it.

        Args:
            names: of the parameters of ``model`` to train; the others are frozen.

        Raises:
            BackboneError: some of them are quantized.
        """
        rounded = [name for name, p in self.model.named_parameters() if name in names and not p.is_floating_point()]
        if rounded:
            raise BackboneError(
                f"{self.name}: weights quantized to '{self.quantization}' cannot be trained ({rounded[0]}, ...). "
                "Train a prompt, or load the backbone without quantization"
            )
        self.identity  # noqa: B018  taken while it is true
        self.tuned |= set(names)
        self.generation += 1
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in names)

    def check_unchanged(self, generation: int) -> None:
        """Refuse to go on for whoever was made on this backbone when it was of another generation.

        Raises:
            BackboneError: another model has given weights free since.
        """
        if self.generation != generation:
            raise BackboneError(
                f"{self.name}: its weights were changed by another model since this one was made on it. "
                "Load a backbone of its own for each model that tunes one"
            )

    def regularize(self, *, hidden: float = 0.0, attention: float = 0.0) -> None:
        """Choose the dropout that runs inside the backbone while training.

        A frozen backbone needs none to be frozen, and attention dropout takes attention off its
        fast path; yet on small data dropout keeps prompts from overfitting. So it is a choice.

        Args:
            hidden: probability for embeddings and sub-layer outputs.
            attention: probability for attention weights.
        """
        self.hidden_dropout, self.attention_dropout = hidden, attention
        set_dropout(self.model, hidden)

    def train(self, mode: bool = True) -> Backbone:
        """Enter or leave training mode.

        Without dropout the model always evaluates, unless it recomputes activations: transformers
        does so in training mode only, and then no dropout is there to change a result.
        """
        super().train(mode)
        drops = self.hidden_dropout > 0 or self.attention_dropout > 0
        self.model.train(mode and (drops or self._recomputes))
        return self

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """No dropout and no recomputing, which leaves no cache, while it lasts."""
        training = self.training
        if training:
            self.eval()
        try:
            yield
        finally:
            if training:
                self.train()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        injection: Injection | None = None,
        *,
        every_layer: bool = False,
        share: bool = False,
        cache: TrunkCache | TrunkCaches | None = None,
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
            every_layer: whether to give those of the embeddings and of every layer, side by side.
            share: whether rows with the same text run once as far as their prompts let them, where the family can;
                the result is the same within rounding. For inference.
            cache: of the layers below those that the prompts touch, which then run only for texts it does not know. It
                must know every layer if ``every_layer`` is wanted.

        Returns:
            ``(B, T, D)``, or ``(B, T, (N + 1) D)`` of every layer, the last one at the end.

        Raises:
            BackboneError: text and prompt have more positions than the model, or it cannot read such a prompt.
        """
        hidden, layout = self.states(
            input_ids, attention_mask, token_type_ids, injection, every_layer=every_layer, share=share, cache=cache
        )
        if layout is None:
            return hidden
        if self.kind == "decoder" and layout.unread(attention_mask):
            raise BackboneError(
                f"{self.name}: vectors that stand behind the text are never read by a head on a decoder's text. Place "
                "them before it (method.placement = 'front', or no number at the end of method.template)"
            )
        return layout.of_text(hidden)

    def states(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        injection: Injection | None = None,
        *,
        every_layer: bool = False,
        share: bool = False,
        cache: TrunkCache | TrunkCaches | None = None,
    ) -> tuple[Tensor, Layout | None]:
        """What `forward` takes the text from: hidden states of text and prompt, and where both stand.

        Returns:
            No layout where the sequence is the text as it was given.
        """
        self._check_reads_text()
        if injection is not None:
            check_prompts(self, injection)
        prompts = None if injection is None else injection.inputs()
        layout = None
        inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        if prompts is not None or not bool(attention_mask[:, 0].all()):
            layout = lay_out(input_ids, attention_mask, prompts, self.tokenizer)
            inputs = laid_out(self, layout, inputs, prompts)
        if injection is not None:
            inputs |= positions(self, inputs["attention_mask"], injection)
        sources = attention_mask.sum(1) if layout is None else layout.mask.sum(1)
        slots = None if layout is None or prompts is None else layout.slots
        branching, entry = None, None
        if cache is not None:
            self._check_above(cache, injection)
            entry = cache.entry(inputs)
        elif share and injection is not None and FAMILIES[self.family].branches:
            texts = [input_ids, attention_mask, *([] if token_type_ids is None else [token_type_ids])]
            branching = find_branching(texts, injection, self.depth, next(iter(self.sites)).stack)
        arranged, numbered = None, FAMILIES[self.family].numbered
        if slots is None and branching is None and numbered is not None:
            arranged = arrangement(inputs["attention_mask"], self.max_length)
            if arranged is not None:
                inputs = arranged.inputs(inputs, numbered(self.trunk.config, inputs))
                entry = entry and entry.arranged(arranged.into)
        packing = arranged if isinstance(arranged, Packing) else None
        call = self.prefix_call(
            injection, slots=slots, sources=sources, keep=every_layer, branching=branching, entry=entry, packing=packing
        )
        if branching is not None:
            inputs = {name: value[branching.rows[0]] if len(value) > 1 else value for name, value in inputs.items()}
        hidden = FAMILIES[self.family].run(self.trunk, inputs, call) if entry is None else run_above(self, inputs, call)
        hidden = call.side_by_side(hidden) if every_layer else call.whole(hidden)
        return hidden if arranged is None else arranged.back(hidden), layout

    def encode_images(self, pixel_values: Tensor, injection: Injection | None = None) -> Tensor:
        """Hidden states of the last layer of a model that reads images, for the class token and every patch.

        Args:
            pixel_values: ``(B, channels, height, width)``, as the model's image processor makes them.
            injection: prompts of the batch, with keys and values only, or None for the bare model.

        Returns:
            ``(B, T, D)``.

        Raises:
            BackboneError: the model reads text, or the prompts are not for images.
        """
        if self.kind != "image":
            raise BackboneError(f"{self.name}: a {self.family} model reads text, not images. Call the backbone itself")
        if injection is not None:
            check_prompts(self, injection)
        call = self.prefix_call(injection)
        return FAMILIES[self.family].run(self.trunk, {"pixel_values": pixel_values}, call)

    def prefix_call(self, injection: Injection | None, **places: Any) -> PrefixCall:
        """What the attention layers of one forward pass are to know; ``places`` as `PrefixCall` takes them."""
        recompute = self._recomputes and self.training
        return PrefixCall(self._sites.of, injection, self.attention_dropout, recompute=recompute, **places)

    def _check_reads_text(self) -> None:
        if self.kind == "image":
            raise BackboneError(
                f"{self.name}: a {self.family} model reads images, not text. Call encode_images with pixel values"
            )

    def _check_above(self, cache: TrunkCache | TrunkCaches, injection: Injection | None) -> None:
        begins = self.depth if injection is None else self.first_layer(injection.bank)
        if begins < cache.layer:
            raise BackboneError(
                f"{self.name}: a prompt begins at layer {begins}, below layer {cache.layer}, where the trunk cache ends"
            )

    @cached_property
    def accepts(self) -> frozenset[str]:
        """Names of what the trunk can be given."""
        return frozenset(inspect.signature(self.trunk.forward).parameters)

    def check_length(self, positions: int) -> None:
        """Refuse rows that take more positions than there are.

        Raises:
            BackboneError: with both numbers, and what to shorten.
        """
        if positions > self.max_length:
            raise BackboneError(
                f"{self.name}: text and prompt of a row take {positions} positions, the model has "
                f"{self.max_length}. Shorten the text (training.max_length) or the prompt (method.prompt_length)"
            )

    def gradient_checkpointing(self, enabled: bool = True) -> None:
        """Trade compute for memory by recomputing activations in the backward pass."""
        if enabled == self._recomputes:
            return
        self._recomputes = enabled
        if FAMILIES[self.family].runs_layers:
            return
        verb = "enable" if enabled else "disable"
        switch = getattr(self.model, f"activation_checkpointing_{verb}", None)
        if switch is None:  # its name in the earlier releases of transformers 5
            switch = getattr(self.model, f"gradient_checkpointing_{verb}")
        switch(*[{"use_reentrant": False, "context_fn": active_again}] * enabled)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.device
        return device
