"""What a language model writes behind a given text, with prompts in front.

Two questions are asked of it here. `generate` lets it write, with everything that transformers' own
`generate` can do. `continuation_logits` asks what it thinks of every token of a continuation that is
given already, as training and scoring do.

transformers never learns of a prompt: its `generate` is run on a view of the model that puts into each
forward pass what belongs there, and counts and returns tokens of text only. No prefix enters a cache.

Source: Li & Liang 2021, section 4 (decoders; encoder, decoder and cross attention of encoder-decoders);
Lester et al. 2021, section 2 (input prompts of an encoder).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from foreword.backbones.attention import KEYWORD
from foreword.backbones.backbone import Backbone
from foreword.backbones.embedding import Layout, lay_out
from foreword.backbones.families import FAMILIES
from foreword.backbones.inputs import check_prompts, position_shifts
from foreword.errors import BackboneError
from foreword.injection import Injection

# What this file gives to transformers itself, or what would make it return something else than tokens.
_OURS = {
    "attention_mask",
    "decoder_attention_mask",
    "decoder_input_ids",
    "encoder_outputs",
    "generation_config",
    "guidance_scale",
    "inputs_embeds",
    "past_key_values",
    "position_ids",
    "return_dict_in_generate",
    "token_healing",
}
# What counts the positions of a cache by the tokens of the text, and so cannot be used with an input prompt.
_COUNTING = {"assistant_model", "cache_implementation", "prefill_chunk_size", "prompt_lookup_num_tokens"}


@torch.no_grad()
def generate(
    backbone: Backbone,
    input_ids: Tensor,
    attention_mask: Tensor,
    injection: Injection | None = None,
    *,
    max_new_tokens: int,
    **settings: Any,
) -> Tensor:
    """Let a decoder go on with a text, or an encoder-decoder answer one.

    A row does not depend on the others, nor on its padding, whatever side that is on.

    Args:
        backbone: loaded with ``language_model=True``.
        input_ids: ``(B, T)`` int64.
        attention_mask: ``(B, T)``, nonzero for real tokens.
        injection: prompts of the batch, or None for the bare model.
        max_new_tokens: how many tokens one row may get.
        **settings: anything else that `transformers` knows, such as ``num_beams`` or ``do_sample``.

    Returns:
        ``(B, U)`` int64, the new tokens only, padded on the right; ``(B * n, U)`` with
        ``num_return_sequences=n``, those of one row together.

    Raises:
        BackboneError: the model writes no text, has too few positions for it, or a setting cannot be used.
    """
    _check_writes(backbone)
    _check_settings(backbone, settings, injection)
    settings = {"pad_token_id": backbone.tokenizer.pad_token_id, "disable_compile": True} | settings
    settings["max_new_tokens"] = max_new_tokens
    with backbone.evaluating():
        if backbone.kind == "decoder":
            given = Given(backbone, input_ids, attention_mask, injection)
            given.check_room(max_new_tokens)
            view = _view(backbone.model, lambda inputs: given.inputs(inputs["input_ids"], _past(inputs)))
            tokens: Tensor = view.generate(given.ids, attention_mask=given.mask, **settings)
            return tokens[:, given.ids.shape[1] :]
        _check_decoder_room(backbone, max_new_tokens)
        states, mask = _encoded(backbone, input_ids, attention_mask, injection)

        def prepare(inputs: Mapping[str, Any]) -> dict[str, Any]:
            times = inputs["decoder_input_ids"].shape[0] // input_ids.shape[0]
            return {KEYWORD: backbone.prefix_call(injection and injection.repeated(times), past=_past(inputs))}

        tokens = _view(backbone.model, prepare).generate(
            input_ids, attention_mask=mask, encoder_outputs=BaseModelOutput(last_hidden_state=states), **settings
        )
        return tokens[:, 1:]  # without the token that a decoder starts from


def continuation_logits(
    backbone: Backbone,
    input_ids: Tensor,
    attention_mask: Tensor,
    written: Tensor,
    injection: Injection | None = None,
) -> Tensor:
    """Logits of every token of a continuation, each given the text and the tokens before it.

    Args:
        backbone: loaded with ``language_model=True``.
        input_ids: ``(B, T)`` int64.
        attention_mask: ``(B, T)``, nonzero for real tokens.
        written: ``(B, U)`` int64, padded on the right with any id, or a negative number as labels have it.
        injection: prompts of the batch, or None for the bare model.

    Returns:
        ``(B, U, V)``; ``[:, u]`` is about token u of ``written``. What stands at its padding means nothing.

    Raises:
        BackboneError: the model writes no text, or has too few positions for it.
    """
    _check_writes(backbone)
    family, model = FAMILIES[backbone.family], backbone.model
    written = written.masked_fill(written < 0, backbone.tokenizer.pad_token_id)
    if backbone.kind == "decoder":
        given = Given(backbone, input_ids, attention_mask, injection)
        given.check_room(written.shape[1])
        inputs = given.inputs(torch.cat([given.ids, written[:, :-1]], dim=1))
        call = inputs.pop(KEYWORD)
        hidden = family.run(backbone.trunk, inputs, call)[:, given.length - 1 :]  # (B, U, D)
    else:
        _check_decoder_room(backbone, written.shape[1])
        states, mask = _encoded(backbone, input_ids, attention_mask, injection)
        inputs = {
            "input_ids": model.prepare_decoder_input_ids_from_labels(written),
            "encoder_hidden_states": states,
            "encoder_attention_mask": mask,
            "use_cache": False,
        }
        hidden = family.run(model.get_decoder(), inputs, backbone.prefix_call(injection))
    return backbone.vocabulary_logits(backbone.vocabulary_features(hidden))


class Given:
    """The texts of a batch and their prompts, laid out for a decoder to go on: all padding on the left.

    Args:
        backbone: the decoder.
        input_ids: ``(B, T)`` int64, padded on whatever side.
        attention_mask: ``(B, T)``, nonzero for real tokens.
        injection: prompts of the batch, or None.

    Attributes:
        ids, mask: ``(B, T)`` the texts alone, padded on the left.
        length: S, places of text and input prompt together.
    """

    def __init__(
        self, backbone: Backbone, input_ids: Tensor, attention_mask: Tensor, injection: Injection | None
    ) -> None:
        if injection is not None:
            check_prompts(backbone, injection)
        tokenizer = backbone.tokenizer
        text = lay_out(input_ids, attention_mask, None, tokenizer, padding="left")
        self.ids, self.mask = text.arranged(input_ids, input_ids[:, :0]), text.mask
        self._backbone, self._injection = backbone, injection
        self._prompts = None if injection is None else injection.inputs()
        self._layout = lay_out(self.ids, self.mask, self._prompts, tokenizer, padding="left")
        self.length = self._layout.mask.shape[1]
        if not bool(self._layout.mask[:, -1].all()):
            empty = int(self._layout.mask[:, -1].argmin())
            raise BackboneError(f"{backbone.name}: row {empty} of the batch has no token that could be gone on from")

    def check_room(self, new: int) -> None:
        """Refuse to write more than there are positions for.

        Raises:
            BackboneError: text, prompt and ``new`` tokens of some row, of which the last is never read, are more.
        """
        taken = self._layout.mask.sum(1) + new - 1
        shifts = position_shifts(self._injection, taken.device)
        self._backbone.check_length(int((taken if shifts is None else taken + shifts).max()))

    def inputs(self, ids: Tensor, past: int = 0) -> dict[str, Any]:
        """What a forward pass is to be given, our call included.

        Args:
            ids: ``(B * n, ...)``, the texts and all that was written behind them; what of it is new, if there is
                a past. Where rows stand several times, as beams do, those of one text follow one another.
            past: positions that are in the cache.
        """
        rows, new = ids.shape
        times = rows // self.ids.shape[0]
        injection = self._injection and self._injection.repeated(times)
        layout = _repeated(self._layout, times)
        opens = past == 0 and self._prompts is not None
        end = past + new + (self.length - self.ids.shape[1] if opens else 0)
        mask = torch.cat([layout.mask, layout.mask.new_ones((rows, max(end - self.length, 0)))], dim=1)[:, :end]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        shifts = position_shifts(injection, mask.device)
        if shifts is not None:
            positions = positions + shifts[:, None]
        call = self._backbone.prefix_call(
            injection,
            slots=layout.slots if opens else None,
            sources=mask.new_full((rows,), self.length),
            past=past,
        )
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions[:, past:], KEYWORD: call}
        if opens:
            inputs |= {"input_ids": None, "inputs_embeds": self._embedded(ids, layout, injection)}
        return inputs

    def _embedded(self, ids: Tensor, layout: Layout, injection: Injection | None) -> Tensor:
        """Embeddings of text and continuation, with the vectors of the prompts in their places."""
        assert injection is not None
        prompts = injection.inputs()
        assert prompts is not None
        embedded, tokens = self._backbone.embed(ids), self.ids.shape[1]
        given = layout.arranged(embedded[:, :tokens], prompts.vectors.expand(ids.shape[0], -1, -1))
        return torch.cat([given, embedded[:, tokens:]], dim=1)


def _repeated(layout: Layout, times: int) -> Layout:
    """The layout of a batch in which every row stands ``times`` times."""
    parts = (layout.order, layout.mask, layout.text, layout.slots)
    return layout if times == 1 else Layout(*(part.repeat_interleave(times, dim=0) for part in parts))


def _encoded(
    backbone: Backbone, input_ids: Tensor, attention_mask: Tensor, injection: Injection | None
) -> tuple[Tensor, Tensor]:
    """Hidden states of an encoder over text and input prompt, and the mask of both: a decoder reads both."""
    states, layout = backbone.states(input_ids, attention_mask, None, injection)
    return states, attention_mask if layout is None else layout.mask


def _view(model: Any, prepare: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    """The same model and weights, where every forward pass is given also what ``prepare`` makes of its inputs.

    The model itself is left as it is, so others may use it at the same time.
    """
    view, bare = copy.copy(model), model.forward

    @wraps(bare)  # transformers goes by the signature
    def forward(**inputs: Any) -> Any:
        return bare(**(inputs | prepare(inputs)))

    view.forward = forward
    return view


def _past(inputs: Mapping[str, Any]) -> int:
    cache = inputs.get("past_key_values")
    return 0 if cache is None else int(cache.get_seq_length())


def _check_writes(backbone: Backbone) -> None:
    """Refuse models that write no text."""
    who = f"{backbone.name}: a {backbone.family} model"
    if backbone.kind not in ("decoder", "encoder-decoder") or FAMILIES[backbone.family].project is None:
        raise BackboneError(f"{who} writes no text. Use a decoder (such as gpt2) or an encoder-decoder (such as t5)")
    if not backbone.language_model:
        raise BackboneError(f"{who} was loaded without what writes text. Load it with language_model=True")


def _check_settings(backbone: Backbone, settings: Mapping[str, Any], injection: Injection | None) -> None:
    """Refuse settings that would not do what they say."""
    for name in sorted(_OURS & settings.keys()):
        raise BackboneError(f"generation: '{name}' cannot be chosen, it is put together with the prompts")
    counted = backbone.kind == "decoder" and injection is not None and injection.inputs() is not None
    for name in sorted(_COUNTING & settings.keys() if counted else ()):
        raise BackboneError(f"generation: '{name}' cannot be used with an input prompt, only with a prefix")


def _check_decoder_room(backbone: Backbone, new: int) -> None:
    """Refuse to write more than the decoder of an encoder-decoder has positions for."""
    positions = FAMILIES[backbone.family].positions(backbone.model.config)
    if new > positions:
        raise BackboneError(f"{backbone.name}: {new} new tokens, the model's decoder has {positions} positions")
