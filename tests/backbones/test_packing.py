"""Batches without their padding against the same batches with it."""

from __future__ import annotations

import pytest
import torch

import foreword as fw
from foreword.backbones import FAMILIES, packing
from foreword.backbones.packing import Packing, Widening, arrangement
from foreword.backbones.trunk import TrunkCache
from foreword.caching import MemoryStore
from foreword.injection import Injection
from plain import plain_model
from tiny import tiny_backbone
from tiny_prompts import LENGTHS, ROWS, padded, prompt

PACKED = sorted(name for name, family in FAMILIES.items() if family.numbered is not None)


@pytest.fixture
def counted(monkeypatch):
    """Packings that were made, so that a test sees there was one."""
    made = []
    original = Packing.of.__func__
    monkeypatch.setattr(Packing, "of", classmethod(lambda cls, mask: made.append(original(cls, mask)) or made[-1]))
    return made


def unpacked(monkeypatch):
    monkeypatch.setattr(packing, "MOST_FILLED", -1.0)


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("prompts", ["none", "one", "mixed"])
@pytest.mark.parametrize("every_layer", [False, True])
def test_real_tokens_get_the_same(family, prompts, every_layer, counted, monkeypatch):
    backbone = tiny_backbone(family).double()
    ids, mask, types = padded(backbone, extra=2)
    layers = range(backbone.depth)
    bank = [prompt(length, layers, seed=length) for length in LENGTHS]
    injection = {
        "none": None,
        "one": Injection(bank[:1]),
        "mixed": Injection(bank, torch.tensor(ROWS)),
    }[prompts]
    with torch.no_grad():
        found = backbone(ids, mask, types, injection, every_layer=every_layer)
        assert counted[-1] is not None
        unpacked(monkeypatch)
        wanted = backbone(ids, mask, types, injection, every_layer=every_layer)
        assert counted[-1] is None
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], rtol=1e-10, atol=1e-10)
    assert not found[~mask.bool()].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gate", [False, True])
def test_prompts_get_the_same_gradients(dtype, gate, counted, monkeypatch):
    backbone = tiny_backbone("bert")
    ids, mask, types = padded(backbone, extra=2)
    gradients = []
    for _ in range(2):
        torch.manual_seed(2)
        encoder = fw.PTuningV2(prompt_length=3, init_scale=1.0, dropout=0.0, gate=gate).build(backbone)
        if gate:
            encoder.gate.data.fill_(0.5)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            hidden = backbone(ids, mask, types, Injection([encoder()]))
        (hidden.float() * mask[:, :, None]).square().sum().backward()
        gradients.append(encoder.prompt.weight.grad)
        unpacked(monkeypatch)
    assert [one is not None for one in counted] == [True, False]
    assert gradients[0].abs().sum() > 0
    relative = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert relative < (1e-5 if dtype == torch.float32 else 3e-2)


def test_padding_in_a_text_is_numbered_as_the_model_numbers_it():
    backbone = tiny_backbone("roberta")
    ids, mask, _ = padded(backbone, extra=3)
    ids[1, 2] = backbone.tokenizer.pad_token_id  # someone wrote "<pad>"
    with torch.no_grad():
        found = backbone(ids, mask)
        wanted = plain_model(backbone)(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], rtol=1e-4, atol=1e-5)


def test_batches_with_little_padding_or_gaps_stay_as_they_are():
    full = torch.ones(4, 25, dtype=torch.long)
    nearly = full.clone()
    nearly[0, -4:] = 0
    half = full.clone()
    half[:2, 10:] = 0
    gap = half.clone()
    gap[3, 4] = 0
    assert Packing.of(full) is None
    assert Packing.of(nearly) is None
    assert Packing.of(gap) is None
    found = Packing.of(half)
    assert found is not None
    assert found.lengths == (10, 10, 25, 25)
    values = torch.arange(1.0, 101.0).view(4, 25)
    packed = found.into(values)[0]
    torch.testing.assert_close(packed[:70], values[half.bool()])
    assert not packed[70:].any()
    torch.testing.assert_close(found.back(found.into(values)), values * half)


def test_tokens_of_many_batches_come_in_few_sizes():
    sizes = set()
    for tokens in range(512, 1024):
        mask = torch.arange(2048)[None] < torch.tensor([[tokens // 2], [tokens - tokens // 2]])
        found = Packing.of(mask)
        assert found is not None
        assert tokens <= found.size < tokens * (1 + 1 / 16)
        sizes.add(found.into(mask.float()).shape[1])
    assert len(sizes) == 17


@pytest.mark.parametrize("family", PACKED)
@pytest.mark.parametrize("layer", [None, 1])
def test_rows_without_padding_get_one_of_few_lengths(family, layer, counted, monkeypatch):
    backbone = tiny_backbone(family).double()
    widths = []
    backbone.trunk.encoder.register_forward_pre_hook(lambda module, given: widths.append(given[0].shape[1]))
    ids = torch.randint(5, 60, (2, 35), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    injection = Injection([prompt(3, {1}, seed=1)])
    cache = None if layer is None else TrunkCache(backbone, layer, MemoryStore(1 << 20))
    with torch.no_grad():
        found = backbone(ids, mask, injection=injection, cache=cache)
        monkeypatch.setattr(packing, "rounded_up", lambda size: size)
        wanted = backbone(ids, mask, injection=injection)
    assert counted == [None, None]
    assert widths[-2:] == [36, 35]
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_rows_are_not_made_longer_than_they_may_be():
    mask = torch.ones(2, 71)
    assert arrangement(mask, 512) == Widening(1)
    assert arrangement(mask, 71) is None
    assert arrangement(torch.ones(2, 72), 512) is None


@pytest.mark.parametrize("way", ["into", "back"])
def test_gradients_go_back_to_where_tokens_came_from(way):
    mask = torch.arange(20)[None] < torch.tensor([[20], [13]])
    found = Packing.of(mask)
    shape = (2, 20, 2) if way == "into" else (1, 34, 2)
    values = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(getattr(found, way), values)


def test_layers_above_a_trunk_cache_are_packed_too(counted, monkeypatch):
    backbone = tiny_backbone("bert")
    ids, mask, types = padded(backbone, extra=2)
    injection = Injection([prompt(3, {1, 2}, seed=1, dtype=torch.float32)])
    with torch.no_grad():
        cache = TrunkCache(backbone, 1, MemoryStore(1 << 20), every_layer=True)
        found = backbone(ids, mask, types, injection, every_layer=True, cache=cache)
        assert counted[-1] is not None
        unpacked(monkeypatch)
        wanted = backbone(ids, mask, types, injection, every_layer=True)
    torch.testing.assert_close(found[mask.bool()], wanted[mask.bool()], rtol=1e-4, atol=1e-5)
