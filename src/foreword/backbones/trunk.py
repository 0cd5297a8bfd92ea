"""The trunk cache: what a frozen backbone makes of a text below the layers that are trained, computed once per text.

The hidden states that enter the first layer which a prompt (or whatever else is trained) touches depend on the text
alone. They are kept without padding, in the type that is computed in, under a digest of all that decides them: the
backbone's weights, configuration and tokenizer, the layer, the type, the libraries, the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from importlib.metadata import version

import torch
from torch import Tensor
from torch.nn.functional import pad

from foreword.backbones.call import Entry
from foreword.backbones.cutting import entry_of, run_below
from foreword.backbones.loaded import Loaded
from foreword.backbones.packing import row_lengths
from foreword.backbones.sizes import rounded_up
from foreword.caching import Store
from foreword.errors import BackboneError

_NOT_DECISIVE = ("_name_or_path", "transformers_version", "dtype")


class TrunkCache:
    """Hidden states of texts at one layer of one backbone.

    Args:
        backbone: whose weights below the layer stay as its `identity` says.
        layer: the first that differs from run to run; N, where none does, for what the model gives in the end.
        store: where states are kept; may be shared with any other backbones, layers and runs.
        every_layer: whether those that enter the layers below are wanted too, for heads that read all of them.

    Attributes:
        hits, misses: rows that were found, and that had to be computed; of rows of a batch with one text, one is.
    """

    def __init__(self, backbone: Loaded, layer: int, store: Store, *, every_layer: bool = False) -> None:
        self.layer, self.store, self.every_layer = layer, store, every_layer
        self.hits = self.misses = 0
        self._backbone = backbone
        identity = backbone.identity
        config = {key: one for key, one in backbone.trunk.config.to_dict().items() if key not in _NOT_DECISIVE}
        self._about = json.dumps(
            [
                [identity.family, identity.weights, identity.dtype, identity.quantization, identity.tokenizer],
                config,
                [layer, every_layer],
                [version(library) for library in ("foreword", "torch", "transformers")],
            ],
            sort_keys=True,
            default=str,
        )

    def entry(self, inputs: dict[str, Tensor]) -> Entry:
        """What enters the layer, computed for those rows that are not known yet.

        Args:
            inputs: "input_ids", "attention_mask" and maybe "token_type_ids" of a batch, ``(B, S)`` each, with all
                padding on the right. Nothing of the prompts is in it.
        """
        mask = inputs["attention_mask"]
        lengths, kept_in = self._lengths(mask), self._dtype(mask.device)
        keys = self._keys(inputs, lengths, kept_in)
        width = self._backbone.hidden_size * (self.layer + 1 if self.every_layer else 1)
        firsts = {key: number for number, key in reversed(list(enumerate(keys)))}  # of rows with one text
        found: dict[bytes, Tensor] = {}
        for key, number in firsts.items():
            states = self.store.get(key, (lengths[number], width), kept_in)
            if states is not None:
                found[key] = states
        missing = [number for key, number in firsts.items() if key not in found]
        self.hits, self.misses = self.hits + len(keys) - len(missing), self.misses + len(missing)
        for number, computed in self._computed(inputs, missing, lengths):
            found[keys[number]] = states = computed.to("cpu", kept_in, copy=True)
            self.store.put(keys[number], states)
        whole = torch.zeros((*mask.shape, width), dtype=self._backbone.model.dtype)
        for row, key, length in zip(whole, keys, lengths, strict=True):
            row[:length] = found[key]
        return entry_of(whole.to(mask.device), self.layer, every_layer=self.every_layer)

    def _lengths(self, mask: Tensor) -> list[int]:
        """Real tokens of every row, which stand at its beginning.

        Raises:
            BackboneError: they do not.
        """
        lengths = row_lengths(mask.cpu())
        if lengths is None:
            raise BackboneError(f"{self._backbone.name}: the mask of a text has a gap, and the trunk cache knows none")
        return lengths

    def _dtype(self, device: torch.device) -> torch.dtype:
        """The type that is computed in."""
        if torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        found: torch.dtype = self._backbone.model.dtype
        return found

    def _keys(self, inputs: dict[str, Tensor], lengths: list[int], kept_in: torch.dtype) -> list[bytes]:
        about = blake2b(f"{self._about} {kept_in}".encode(), digest_size=16)
        parts = [inputs[name].cpu().numpy() for name in ("input_ids", "token_type_ids") if name in inputs]
        keys = []
        for number, length in enumerate(lengths):
            key = about.copy()
            for part in parts:
                key.update(part[number, :length].tobytes())
            keys.append(key.digest())
        return keys

    def _computed(
        self, inputs: dict[str, Tensor], missing: list[int], lengths: list[int]
    ) -> Iterator[tuple[int, Tensor]]:
        """Number and states ``(length, width)`` of each missing row.

        On a CPU they run one by one, which takes hardly longer there: little padding is computed, and what is kept does
        not depend on the rows beside it, so runs that fill the cache in other orders have the same bits.
        """
        alone = inputs["input_ids"].device.type == "cpu"
        for rows in [[number] for number in missing] if alone else [missing] * bool(missing):
            longest = max(lengths[number] for number in rows)
            if alone:
                longest = min(rounded_up(longest, steps=4), self._backbone.max_length)
            some = {name: pad(value[rows], (0, longest - value.shape[1])) for name, value in inputs.items()}
            states = run_below(self._backbone, some, self.layer, every_layer=self.every_layer)
            yield from ((number, one[: lengths[number]]) for number, one in zip(rows, states, strict=True))


class TrunkCaches:
    """Caches of several models for rows of all of them in one batch: each is asked for its own.

    Args:
        caches: all of one layer, and alike in whether they know those below.
        rows: how many rows of the batch are whose, in order.
    """

    def __init__(self, caches: Sequence[TrunkCache], rows: Sequence[int]) -> None:
        self.layer, self._caches, self._rows = caches[0].layer, caches, list(rows)

    def entry(self, inputs: dict[str, Tensor]) -> Entry:
        """What enters the layer, as `TrunkCache.entry` gives it."""
        parts = {name: torch.split(value, self._rows) for name, value in inputs.items()}
        own = [{name: part[number] for name, part in parts.items()} for number in range(len(self._rows))]
        entries = [cache.entry(some) for cache, some in zip(self._caches, own, strict=True)]
        below = {number: torch.cat([entry.below[number] for entry in entries]) for number in entries[0].below}
        return Entry(self.layer, torch.cat([entry.states for entry in entries]), below)
