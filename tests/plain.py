"""The slow way to run an input prompt: the plain model of transformers, row by row, on hand-made embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel

from foreword.backbones import Backbone
from foreword.data.batching import collate

Placed = Sequence[tuple[int, Tensor]]
"""Vectors and, for each, the number of the token before which it goes."""

TEXTS = (
    "Anna Smith visited London.",
    "Peter was reading about 2 small houses in Germany and it",
    "nobody didn't like",
)


def plain_model(backbone: Backbone, **options: Any) -> Any:
    """The backbone's files, loaded by transformers alone and with its own plain attention."""
    return AutoModel.from_pretrained(backbone.name, attn_implementation="eager", **options).eval()


def row_of(backbone: Backbone, *texts: str) -> dict[str, list[int]]:
    """Token ids and, where the family has them, segment numbers of a text or a pair."""
    encoded = backbone.tokenizer(*texts)
    return {name: encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded}


def batch_of(backbone: Backbone, rows: Sequence[Mapping[str, list[int]]], padding: str = "right") -> dict[str, Tensor]:
    """Rows padded to the longest, as keywords of `Backbone.forward`."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(values: Sequence[list[int]], fill: int) -> Tensor:
        fills = [[fill] * (longest - len(one)) for one in values]
        pairs = zip(fills, values, strict=True)
        return torch.tensor([[*more, *one] if padding == "left" else [*one, *more] for more, one in pairs])

    batch = {name: padded([row[name] for row in rows], 0) for name in rows[0]}
    batch["input_ids"] = padded([row["input_ids"] for row in rows], backbone.tokenizer.pad_token_id)
    return batch | {"attention_mask": padded([[1] * len(row["input_ids"]) for row in rows], 0)}


@torch.no_grad()
def run_by_hand(
    backbone: Backbone,
    row: Mapping[str, list[int]],
    placed: Placed,
    deltas: Mapping[int, Sequence[Tensor]] | None = None,
) -> Tensor:
    """Hidden states of the text of one row, ``(T, D)``.

    Args:
        backbone: whose files are used.
        row: unpadded.
        placed: vectors with their places, in order where places are the same.
        deltas: layer -> per vector, in the order of ``placed``, what is added to what the layer is given.
    """
    model = plain_model(backbone)
    table = model.get_input_embeddings().weight
    sequence, segments, text, slots = [], [], [], {}
    for number, token in enumerate([*row["input_ids"], None]):
        for which, (before, vector) in enumerate(placed):
            if before == number:
                slots[which] = len(sequence)
                sequence.append(vector)
                segments.append(0)
        if token is not None:
            text.append(len(sequence))
            sequence.append(table[token])
            segments.append(row.get("token_type_ids", [0] * (number + 1))[number])
    assert len(slots) == len(placed)
    first = model.config.pad_token_id + 1 if model.config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    inputs = {
        "inputs_embeds": torch.stack(sequence)[None],
        "attention_mask": torch.ones(1, len(sequence), dtype=torch.long),
        "position_ids": torch.arange(first, first + len(sequence))[None],
    }
    if "token_type_ids" in row:
        inputs["token_type_ids"] = torch.tensor([segments])
    for layer, changes in (deltas or {}).items():
        model.encoder.layer[layer].register_forward_pre_hook(_adding(slots, changes))
    return model(**inputs).last_hidden_state[0, text]


def _adding(slots: Mapping[int, int], changes: Sequence[Tensor]) -> Any:
    def before(_: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0].clone()
        for which, place in slots.items():
            hidden[0, place] += changes[which]
        return hidden, *args[1:]

    return before


def collated(backbone: Backbone, rows: Sequence[Any]) -> Any:
    """A batch of encoded rows, in their order."""
    return collate(rows, range(len(rows)), backbone.tokenizer.pad_token_id)
