"""Texts, prompts and comparisons that the tests of backbones share."""

from __future__ import annotations

import torch

from foreword.injection import KeyValue, Prompt, Site

TEXTS = [
    "Anna visited London.",
    "The old doctor was reading about New York-based banks.",
    "It",
    "Peter didn't like this wonderful company.",
    "Nobody has never seen some cheap food in Germany.",
    "My sister wrote a letter to O'Brien.",
]
ROWS = [2, 0, 1, 0, 2, 1]
LENGTHS = (2, 5, 3)
EVERY = {0, 1, 2}


def padded(backbone, texts=TEXTS, *, side="right", extra=0):
    """Token ids, mask, and token types that are not all 0 where the family has several."""
    rows = [backbone.tokenizer(text)["input_ids"] for text in texts]
    width = max(map(len, rows)) + extra
    ids = torch.full((len(rows), width), backbone.tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for number, tokens in enumerate(rows):
        place = slice(0, len(tokens)) if side == "right" else slice(width - len(tokens), width)
        ids[number, place], mask[number, place] = torch.tensor(tokens), 1
    types = torch.zeros_like(ids)
    if getattr(backbone.model.config, "type_vocab_size", 0) > 1:
        types[:, width // 2 :] = 1
    return ids, mask, types


def prompt(length, layers, *, seed, dtype=torch.float64):
    """Random keys and values for heads of the tiny models, ready to be differentiated."""
    generator = torch.Generator().manual_seed(seed)

    def numbers():
        return torch.randn(4, length, 8, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    return Prompt({Site("encoder", layer): KeyValue(numbers(), numbers()) for layer in sorted(layers)})


def bank(layers=(EVERY, EVERY, EVERY), dtype=torch.float64):
    return [
        prompt(length, chosen, seed=seed, dtype=dtype)
        for seed, (length, chosen) in enumerate(zip(LENGTHS, layers, strict=True))
    ]


def leaves(prompts):
    return [part for prompt in prompts for pair in prompt.prefix.values() for part in (pair.key, pair.value)]


def rows_of(hidden, mask):
    return [states[row.bool()] for states, row in zip(hidden, mask, strict=True)]


def same(found, expected, tolerance=1e-10):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
