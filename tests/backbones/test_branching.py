"""Rows that share layers have the hidden states of rows that run on their own."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from foreword.backbones import FAMILIES, Backbone, packing
from foreword.backbones.branching import find_branching
from foreword.injection import Anchor, Injection, InputPrompt, KeyValue, Prompt
from tiny import tiny_backbone

TEXTS = ("Anna Smith visited London.", "It was a good movie", "nobody didn't like the old doctor, my sister wrote")
TEXT_FAMILIES = [name for name, family in FAMILIES.items() if family.kind != "image"]


def prefix(backbone: Backbone, layers: range, length: int, seed: int, **flags: bool) -> Prompt:
    generator = torch.Generator().manual_seed(seed)
    return Prompt(
        {
            site: KeyValue(*(torch.randn(shape.heads, length, shape.head_size, generator=generator) for _ in range(2)))
            for site, shape in backbone.sites.items()
            if site.layer in layers
        },
        **flags,
    )


def rows_of(backbone: Backbone, numbers: list[int], side: str = "right") -> tuple[torch.Tensor, torch.Tensor]:
    """Texts by their numbers, padded."""
    ids = [backbone.tokenizer(TEXTS[number])["input_ids"] for number in numbers]
    longest = max(map(len, ids))
    gaps = [[0] * (longest - len(row)) for row in ids]
    pad = backbone.tokenizer.pad_token_id
    table = [
        [row, [pad] * len(gap)] if side == "right" else [[pad] * len(gap), row]
        for row, gap in zip(ids, gaps, strict=True)
    ]
    mask = [[[1] * len(a), [0] * len(b)] if side == "right" else [[0] * len(a), [1] * len(b)] for a, b in table]
    return tuple(torch.tensor([[*a, *b] for a, b in which]) for which in (table, mask))


class Runs:
    """Rows that each layer of the first stack was given."""

    def __init__(self, backbone: Backbone) -> None:
        self.rows: list[int] = []
        for layer in backbone.layers.values():
            layer.register_forward_hook(self._note)

    def _note(self, layer, args, out) -> None:
        self.rows.append(len(out if isinstance(out, torch.Tensor) else out[0]))


def both(backbone: Backbone, ids, mask, injection, **options) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        return tuple(backbone(ids, mask, None, injection, share=share, **options) for share in (True, False))


@pytest.mark.parametrize("family", TEXT_FAMILIES)
@pytest.mark.parametrize("side", ["right", "left"])
def test_every_family_gives_the_same(family, side):
    """Prompts from the first layer, from two later ones and none, of two lengths, on texts that come several times."""
    backbone = tiny_backbone(family)
    bank = [
        prefix(backbone, range(1, 9), 3, 1),
        prefix(backbone, range(2, 9), 2, 2),
        prefix(backbone, range(9), 4, 3),
        Prompt(),
    ]
    texts, prompts = [0, 1, 0, 0, 2, 1, 0, 0, 2], [0, 0, 1, 2, 0, 1, 3, 0, 3]
    ids, mask = rows_of(backbone, texts, side)
    injection = Injection(bank, torch.tensor(prompts))
    shared, alone = both(backbone, ids, mask, injection)
    assert (alone[0] - alone[2]).abs().max() > 1e-2  # the same text with another prompt is something else
    torch.testing.assert_close(shared[mask.bool()], alone[mask.bool()], rtol=1e-4, atol=2e-5)
    shared, alone = both(backbone, ids, mask, injection, every_layer=True)
    torch.testing.assert_close(shared[mask.bool()], alone[mask.bool()], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama", "t5"])
def test_the_trunk_runs_once(family, monkeypatch):
    """3 texts in 8 rows: 3 rows below the prompts, 8 from there on."""
    monkeypatch.setattr(packing, "MOST_FILLED", -1.0)  # alone, rows are to be counted too
    backbone = tiny_backbone(family)
    runs = Runs(backbone)
    bank = [prefix(backbone, range(2, 9), 3, seed) for seed in range(8)]
    ids, mask = rows_of(backbone, [0, 1, 2, 0, 1, 2, 0, 1])
    shared, alone = both(backbone, ids, mask, Injection(bank, torch.arange(8)))
    depth = len(backbone.layers)
    assert runs.rows == [3, 3, *[8] * (depth - 2), *[8] * depth]
    torch.testing.assert_close(shared, alone, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "mpnet", "bart"])
@pytest.mark.parametrize("texts", [1, 2])
def test_where_rows_part_they_are_projected_once(family, texts):
    """Multiplications, counted: in the layer where prompts begin, queries, keys and values are those of the texts."""
    backbone = tiny_backbone(family)
    ids, mask = rows_of(backbone, [n % texts for n in range(6)])
    bank = [prefix(backbone, range(1, 9), 3, seed) for seed in range(6)]
    injection = Injection(bank, torch.arange(6))
    weights, first = [0, 0], ("query", "key", "value", ".q", ".k", ".v", "q_proj", "k_proj", "v_proj")
    layer = list(backbone.layers)[1]
    for name, module in backbone.places.items():
        if name.startswith(layer) and isinstance(module, torch.nn.Linear):
            weights[not name.endswith(first)] += module.weight.numel()
    assert min(weights) > 0
    size, depth = ids.shape[1], len(backbone.layers)
    for share, rows, projected in ((True, texts, texts), (False, 6, 6)):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            backbone(ids, mask, None, injection, share=share)
        counts = counter.get_flop_counts()["Global"]
        linear = sum(count for name, count in counts.items() if name in (torch.ops.aten.addmm, torch.ops.aten.mm))
        layers = rows * sum(weights) + projected * weights[0] + 6 * weights[1] + (depth - 2) * 6 * sum(weights)
        assert linear == 2 * size * layers


def test_one_text_of_one_token_count_as_there_are_rows():
    """Sizes that are equal by chance are not taken for one another."""
    backbone = tiny_backbone("llama")
    ids = torch.tensor([[5, 6], [5, 6], [7, 8]])  # 2 texts of 2 tokens
    bank = [prefix(backbone, range(1, 9), 2, seed) for seed in range(3)]
    shared, alone = both(backbone, ids, torch.ones_like(ids), Injection(bank, torch.arange(3)))
    torch.testing.assert_close(shared, alone, rtol=1e-4, atol=2e-5)


def test_prompts_that_change_the_input_share_nothing():
    backbone = tiny_backbone()
    vectors = InputPrompt(torch.randn(2, backbone.embedding_size), (Anchor.FRONT, Anchor.END), {1: torch.randn(2, 32)})
    bank = [
        Prompt(inputs=vectors),
        prefix(backbone, range(1, 3), 2, 1, shift_positions=True),
        prefix(backbone, range(2, 3), 2, 2),
        Prompt(),
    ]
    ids, mask = rows_of(backbone, [0] * 6 + [1])
    injection = Injection(bank, torch.tensor([0, 1, 2, 3, 2, 0, 3]))
    shared, alone = both(backbone, ids, mask, injection)
    torch.testing.assert_close(shared[mask.bool()], alone[mask.bool()], rtol=1e-4, atol=2e-5)
    branching = find_branching([ids, mask], injection, 3, "encoder")
    assert branching is not None
    assert [len(rows) for rows in branching.rows] == [4, 5]  # equal rows stay one to the end


def test_nothing_to_share():
    backbone = tiny_backbone()
    ids, mask = rows_of(backbone, [0, 1, 2])
    assert find_branching([ids, mask], Injection([prefix(backbone, range(1, 3), 2, 1)]), 3, "encoder") is None
