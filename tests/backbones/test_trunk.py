"""A pass from a layer on, with what enters it known, is the whole pass."""

from __future__ import annotations

import copy

import pytest
import torch

from foreword.backbones import Backbone, TrunkCache, trunk
from foreword.caching import MemoryStore
from foreword.errors import BackboneError
from foreword.injection import Anchor, Injection, InputPrompt, KeyValue, Prompt
from tiny import tiny_backbone
from tiny_prompts import TEXTS, padded

SOME = TEXTS[:4]


def prompt(backbone: Backbone, layer: int, *, seed: int = 1, gate: bool = False) -> Prompt:
    """Keys and values of the first stack's layers from one on."""
    generator = torch.Generator().manual_seed(seed)
    stack = next(iter(backbone.sites)).stack

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).requires_grad_()

    return Prompt(
        {
            site: KeyValue(
                numbers(shape.heads, 3, shape.head_size),
                numbers(shape.heads, 3, shape.head_size),
                numbers(shape.query_heads) if gate else None,
            )
            for site, shape in backbone.sites.items()
            if site.layer >= layer and site.stack == stack
        }
    )


def inputs_of(backbone: Backbone, texts=SOME, **options):
    ids, mask, types = padded(backbone, texts, **options)
    return ids, mask, types if "token_type_ids" in backbone.accepts and backbone.kind == "encoder" else None


def cache_of(
    backbone: Backbone, layer: int, store: MemoryStore | None = None, *, every_layer: bool = False
) -> TrunkCache:
    return TrunkCache(backbone, layer, store or MemoryStore(1 << 30), every_layer=every_layer)


def read(backbone, inputs, prompts, cache=None, *, every_layer=False):
    """Hidden states of the text, and gradients of all that the prompt holds."""
    tensors = [part for pair in prompts.prefix.values() for part in pair if part is not None]
    hidden = backbone(*inputs, Injection([prompts]) if tensors else None, every_layer=every_layer, cache=cache)
    text = hidden[inputs[1].bool()]
    weights = torch.randn(text.shape, generator=torch.Generator().manual_seed(3))
    grads = torch.autograd.grad((text * weights).sum(), tensors) if tensors else ()
    return [text.detach(), *grads]


def same(found, wanted, rtol=1e-4, atol=1e-4):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


class Runs:
    """How often layers of the first stack and the embeddings ran."""

    def __init__(self, backbone: Backbone) -> None:
        self.counts = dict.fromkeys(backbone.layer_numbers.values(), 0)
        self.embeddings = 0
        for layer, number in backbone.layer_numbers.items():
            layer.register_forward_hook(lambda *_, number=number: self._ran(number))
        backbone.trunk.get_input_embeddings().register_forward_hook(lambda *_: self._embedded())

    def _ran(self, number: int) -> None:
        self.counts[number] += 1

    def _embedded(self) -> None:
        self.embeddings += 1


@pytest.mark.parametrize("every_layer", [False, True])
def test_every_family_gives_the_same(text_family, every_layer):
    """Hidden states and gradients of a prompt, computed and found, padded on either side, for every layer and none."""
    backbone = tiny_backbone(text_family)
    for layer in range(1, backbone.depth + 1):
        prompts = prompt(backbone, layer, gate=layer == 2)
        cache = cache_of(backbone, layer, every_layer=every_layer)
        for side in ("right", "left"):
            inputs = inputs_of(backbone, side=side)
            if inputs[2] is not None:
                inputs[2].zero_()  # segments are numbered from the other side
            wanted = read(backbone, inputs, prompts, every_layer=every_layer)
            same(read(backbone, inputs, prompts, cache, every_layer=every_layer), wanted)
        assert (cache.hits, cache.misses) == (len(SOME), len(SOME))


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", "bart"])
def test_a_model_that_was_loaded_with_its_vocabulary(family):
    backbone = tiny_backbone(family, language_model=True)
    inputs, prompts = inputs_of(backbone), prompt(backbone, 1)
    same(read(backbone, inputs, prompts, cache_of(backbone, 1)), read(backbone, inputs, prompts))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert", "gpt2", "llama", "t5", "bart"])
def test_the_lower_layers_do_not_run_again(family):
    backbone = tiny_backbone(family)
    runs, cache, inputs = Runs(backbone), cache_of(backbone, 2), inputs_of(backbone)
    read(backbone, inputs, prompt(backbone, 2), cache)
    assert runs.counts == {0: 4, 1: 4, 2: 1}  # on a CPU every text runs alone, and up to the layer only
    computed = runs.embeddings
    read(backbone, inputs, prompt(backbone, 2, seed=7), cache)
    assert runs.counts == {0: 4, 1: 4, 2: 2}
    assert runs.embeddings == computed


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_a_head_alone_runs_no_layer(family):
    backbone = tiny_backbone(family)
    cache, inputs = cache_of(backbone, 3), inputs_of(backbone)
    read(backbone, inputs, Prompt(), cache)
    runs = Runs(backbone)
    same(read(backbone, inputs, Prompt(), cache), read(tiny_backbone(family), inputs, Prompt()))
    assert runs.counts == {0: 0, 1: 0, 2: 0}


def test_rows_with_one_text_are_computed_once():
    backbone = tiny_backbone()
    cache, runs = cache_of(backbone, 1), Runs(backbone)
    inputs, prompts = inputs_of(backbone, [SOME[0], SOME[1], SOME[0]]), prompt(backbone, 1)
    found = read(backbone, inputs, prompts, cache)
    assert runs.counts[0] == 2
    assert (cache.hits, cache.misses) == (1, 2)
    same(found, read(backbone, inputs, prompts))


def test_segments_tell_texts_apart():
    backbone = tiny_backbone()
    ids, mask, types = padded(backbone, SOME)
    cache, prompts = cache_of(backbone, 1), prompt(backbone, 1)
    for one in (types, torch.zeros_like(types), None):
        same(read(backbone, (ids, mask, one), prompts, cache), read(backbone, (ids, mask, one), prompts))
    assert cache.hits < 12


@pytest.mark.parametrize("family", ["bert", "deberta-v2", "gpt2", "mpnet", "t5"])
def test_what_is_kept_depends_on_the_text_alone(family):
    """Bit for bit: so runs that fill a cache in different order, or take it from one another, are the same runs."""
    backbone = tiny_backbone(family)
    alone, beside = cache_of(backbone, 2), cache_of(backbone, 2)
    for cache, texts, extra in ((alone, SOME[:1], 0), (beside, SOME, 5)):
        ids, mask, _ = inputs_of(backbone, texts, extra=extra)
        read(backbone, (ids, mask, None), prompt(backbone, 2), cache)
    (key,) = alone.store._kept
    assert torch.equal(alone.store._kept[key][0], beside.store._kept[key][0])


def test_rows_are_computed_in_few_lengths(monkeypatch):
    backbone, lengths = tiny_backbone("bert"), set()
    original = trunk.run_below
    monkeypatch.setattr(
        trunk,
        "run_below",
        lambda b, inputs, *a, **k: lengths.add(inputs["input_ids"].shape) or original(b, inputs, *a, **k),
    )
    cache = TrunkCache(backbone, 1, MemoryStore(1 << 20))
    for length in range(16, 32):
        ids = torch.full((1, length), 7)
        cache.entry({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert cache.misses == 16
    assert lengths == {(1, 16), (1, 20), (1, 24), (1, 28), (1, 32)}


def test_bfloat16_is_kept_where_it_is_computed_in():
    """Its rounding is that of bfloat16, 2^-9 of a number; half of the bytes are taken."""
    backbone = tiny_backbone()
    inputs, prompts, sizes = inputs_of(backbone), prompt(backbone, 2), []
    for bf16 in (True, False):
        cache = cache_of(backbone, 2)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            wanted, _, found = (read(backbone, inputs, prompts, one) for one in (None, cache, cache))
        same(found[:1], wanted[:1], rtol=0.05 if bf16 else 1e-5, atol=0.05 if bf16 else 1e-5)
        sizes.append(cache.store.size)
    tokens = int(inputs[1].sum())
    assert sizes == [tokens * 32 * 2, tokens * 32 * 4]


def test_types_do_not_mix():
    """States that were computed in bfloat16 are no use to a run in float32."""
    backbone = tiny_backbone()
    cache, inputs, prompts = cache_of(backbone, 2), inputs_of(backbone), prompt(backbone, 2)
    with torch.autocast("cpu", torch.bfloat16):
        read(backbone, inputs, prompts, cache)
    same(read(backbone, inputs, prompts, cache), read(backbone, inputs, prompts), 1e-5, 1e-5)
    assert cache.hits == 0


def test_nothing_else_is_found():
    """Another layer, other weights, another tokenizer, another configuration, every layer instead of one."""
    store, plain = MemoryStore(1 << 30), tiny_backbone()
    inputs = inputs_of(plain)
    read(plain, inputs, prompt(plain, 1), cache_of(plain, 1, store))
    other, tokenized, configured = tiny_backbone(), tiny_backbone(), tiny_backbone()
    with torch.no_grad():
        other.trunk.embeddings.word_embeddings.weight[7] += 1
    tokenized.tokenizer = copy.deepcopy(tokenized.tokenizer)
    tokenized.tokenizer.add_tokens(["London!"])
    configured.trunk.config.layer_norm_eps = 1e-3
    changed = [cache_of(one, 1, store) for one in (other, tokenized, configured)]
    changed += [cache_of(plain, 2, store), cache_of(plain, 1, store, every_layer=True)]
    for cache in changed:
        backbone = cache._backbone
        read(backbone, inputs, prompt(backbone, 2), cache)
        assert cache.hits == 0
    again = cache_of(tiny_backbone(), 1, store)  # the same, loaded once more
    read(again._backbone, inputs, prompt(plain, 1), again)
    assert again.misses == 0


@pytest.mark.parametrize("family", ["bert", "deberta", "albert", "llama", "t5"])
def test_with_activations_recomputed(family):
    backbone = tiny_backbone(family)
    inputs, prompts = inputs_of(backbone), prompt(backbone, 1)
    wanted = read(backbone, inputs, prompts)
    backbone.gradient_checkpointing()
    backbone.train()
    cache = cache_of(backbone, 1)
    for _ in range(2):
        same(read(backbone, inputs, prompts, cache), wanted)
    assert backbone.model.training


def test_dropout_is_above_only():
    backbone = tiny_backbone()
    backbone.regularize(hidden=0.5, attention=0.5)
    backbone.train()
    cache, inputs = cache_of(backbone, 2), inputs_of(backbone)
    noisy = [read(backbone, inputs, prompt(backbone, 2), cache)[0] for _ in range(2)]
    assert not torch.allclose(*noisy)
    backbone.eval()
    same(read(backbone, inputs, prompt(backbone, 2), cache), read(backbone, inputs, prompt(backbone, 2)))


def test_what_inference_filled_serves_training():
    backbone = tiny_backbone()
    cache, inputs, prompts = cache_of(backbone, 1), inputs_of(backbone), prompt(backbone, 1)
    with torch.inference_mode():
        backbone(*inputs, Injection([prompts]), cache=cache)
    same(read(backbone, inputs, prompts, cache), read(backbone, inputs, prompts))
    assert cache.hits == len(SOME)


def test_prompts_that_begin_below_are_refused():
    backbone = tiny_backbone()
    vectors = InputPrompt(torch.randn(2, backbone.embedding_size), (Anchor.FRONT, Anchor.END))
    for low in (prompt(backbone, 1), Prompt(inputs=vectors)):
        with pytest.raises(BackboneError, match=r"begins at layer [01], below layer 2"):
            backbone(*inputs_of(backbone), Injection([low]), cache=cache_of(backbone, 2))


def test_a_mask_with_a_gap_is_refused():
    backbone = tiny_backbone()
    ids, mask, _ = padded(backbone, SOME)
    mask[1, 1] = 0
    with pytest.raises(BackboneError, match="gap"):
        backbone(ids, mask, cache=cache_of(backbone, 2))


def test_the_lowest_layer_of_parts():
    backbone = tiny_backbone()
    layers = list(backbone.layers.values())
    assert backbone.lowest_layer([]) == 3
    assert backbone.lowest_layer([layers[2].output, next(layers[1].parameters())]) == 1
    assert backbone.lowest_layer([layers[2], backbone.trunk.embeddings]) == 0
