"""Decoders with prompts, against models written out by hand in float64 and against transformers alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from by_hand import ROUNDS, TEXTS, Decoder, exactness, random_prompt, surrounded, tensors, unpadded
from foreword.backbones import FAMILIES, plan_backbone
from foreword.errors import BackboneError
from foreword.injection import Anchor, Injection, InputPrompt, Prompt, Site
from tiny import tiny_backbone
from tiny_prompts import padded, rows_of, same

DECODERS = sorted(name for name, family in FAMILIES.items() if family.kind == "decoder")
WRITING = [name for name in DECODERS if FAMILIES[name].project is not None]
TAKING_VECTORS = [name for name in DECODERS if name != "clip_text_model"]
READS = [2, 0, 1, 0]
"""Which prompt each of the texts reads."""


@pytest.fixture(params=DECODERS)
def family(request):
    """Every family of decoders in turn."""
    return request.param


def mixed(backbone, dtype=torch.float64, **how):
    """Prompts of different lengths, one of them at some layers only."""
    some = [Site("decoder", 0), Site("decoder", 2)]
    return [
        random_prompt(backbone, 3, seed=1, dtype=dtype, **how),
        random_prompt(backbone, 5, seed=2, sites=some, dtype=dtype, **how),
        random_prompt(backbone, 2, seed=3, dtype=dtype, **how),
    ]


def by_hand(backbone, ids, mask, prompts):
    """Hidden states of the text of each row, and where infix prompts begin: at the last of its tokens."""
    reference = Decoder(backbone)
    hidden = []
    for row, prompt in zip(unpadded(ids, mask), prompts, strict=True):
        embedded, text = surrounded(reference, row, prompt)
        hidden.append(reference.row(embedded, prompt, len(embedded))[text])
    return hidden


def agree(backbone, ids, mask, bank, reads):
    """The backbone and the model by hand: same hidden states, same gradients for every tensor of every prompt."""
    tolerance = exactness(backbone.family)
    expected = by_hand(backbone, ids, mask, [bank[row] for row in reads])
    rows = None if len(bank) == 1 else torch.tensor(reads)
    found = rows_of(backbone(ids, mask, None, Injection(bank, rows)), mask)
    same(found, expected, tolerance)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(states.shape, generator=generator, dtype=torch.float64) for states in expected]
    gradients = [
        torch.autograd.grad(sum((h * w).sum() for h, w in zip(hidden, weights, strict=True)), tensors(*bank))
        for hidden in (found, expected)
    ]
    assert all(gradient.abs().max() > 1e-6 for gradient in gradients[1])
    same(*gradients, 20 * tolerance)


@pytest.mark.parametrize("side", ["right", "left"])
class TestAgainstTheModelByHand:
    def test_without_a_prompt(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        expected = by_hand(backbone, ids, mask, [Prompt()] * len(TEXTS))
        same(rows_of(backbone(ids, mask), mask), expected, exactness(family))

    def test_prefixes_of_different_lengths(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        agree(backbone, ids, mask, mixed(backbone), READS)

    def test_one_prefix_for_rows_without_padding(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        ids, mask, _ = padded(backbone, [TEXTS[2]] * 2, side=side)
        assert mask.all()
        agree(backbone, ids, mask, mixed(backbone)[:1], [0, 0])

    def test_shifted_positions_with_others_that_are_not(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        bank = [*mixed(backbone, shift_positions=True)[:2], random_prompt(backbone, 2, seed=3)]
        agree(backbone, ids, mask, bank, READS)

    def test_gated_prefixes_with_others_that_are_not(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        bank = [*mixed(backbone, gated=True)[:2], random_prompt(backbone, 2, seed=3)]
        agree(backbone, ids, mask, bank, READS)

    def test_infixes_with_others_that_are_not(self, family, side):
        backbone = tiny_backbone(family, dtype=torch.float64)
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        bank = [*mixed(backbone, infix=True)[:2], random_prompt(backbone, 2, seed=3)]
        agree(backbone, ids, mask, bank, READS)

    def test_prefixes_with_vectors_before_the_text(self, side):
        backbone = tiny_backbone("gpt2", dtype=torch.float64)
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        bank = [
            random_prompt(backbone, 3, seed=1, front=2),
            random_prompt(backbone, 0, seed=2, front=3),
            random_prompt(backbone, 2, seed=3, shift_positions=True),
        ]
        agree(backbone, ids, mask, bank, READS)


def test_shifting_matters_where_positions_do(family):
    backbone = tiny_backbone(family)
    ids, mask, _ = padded(backbone, TEXTS)
    plain, shifted = (
        backbone(ids, mask, None, Injection([random_prompt(backbone, 3, seed=1, shift_positions=shift)]))
        for shift in (False, True)
    )
    assert ((plain - shifted)[mask.bool()].abs().amax(-1) > 1e-4).all()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", TAKING_VECTORS)
def test_vectors_before_the_text_are_those_of_a_plain_run(family, side):
    backbone = tiny_backbone(family)
    plain = AutoModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
    table = plain.get_input_embeddings()
    ids, mask, _ = padded(backbone, TEXTS, side=side)
    bank = [
        random_prompt(backbone, 0, seed=seed, front=front, dtype=torch.float32) for seed, front in enumerate((3, 2, 1))
    ]
    found = rows_of(backbone(ids, mask, None, Injection(bank, torch.tensor(READS))), mask)
    for states, row, read in zip(found, unpadded(ids, mask), READS, strict=True):
        inputs = bank[read].inputs
        front = len(inputs.anchors)
        embedded = torch.cat([inputs.vectors, table(row)])
        expected = plain(inputs_embeds=embedded[None], use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(states, expected[front : front + len(row)], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", ["right", "left"])
def test_vectors_behind_the_text_are_refused_for_no_state_of_it_reads_them(side):
    backbone = tiny_backbone("gpt2")
    ids, mask, _ = padded(backbone, TEXTS, side=side)
    bank = [
        random_prompt(backbone, 0, seed=1, front=3, dtype=torch.float32),
        random_prompt(backbone, 0, seed=2, front=1, end=1, dtype=torch.float32),
    ]
    backbone(ids, mask, None, Injection(bank, torch.zeros(len(TEXTS), dtype=torch.long)))
    with pytest.raises(BackboneError, match="behind the text are never read"):
        backbone(ids, mask, None, Injection(bank, torch.tensor([0] * (len(TEXTS) - 1) + [1])))


def test_every_tensor_of_a_prefix_matters_to_every_token(family):
    backbone = tiny_backbone(family, dtype=torch.float64)
    ids, mask, _ = padded(backbone, TEXTS)
    whole = random_prompt(backbone, 3, seed=1, gated=True)
    before = backbone(ids, mask, None, Injection([whole]))[mask.bool()]
    for number in range(len(tensors(whole))):
        places = iter(range(len(tensors(whole))))
        changed = whole.map(lambda t, places=places, number=number: t + 0.5 * t.sign() * (next(places) == number))
        after = backbone(ids, mask, None, Injection([changed]))[mask.bool()]
        assert ((before - after).abs().amax(-1) > 1e-7).all()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradient_checkpointing_changes_nothing(family, dropout):
    results, runs = [], []
    for checkpointing in (False, True):
        backbone = tiny_backbone(family)
        backbone.regularize(hidden=dropout, attention=dropout)
        backbone.gradient_checkpointing(checkpointing)
        backbone.train()
        calls, layer = [], next(iter(backbone._sites.of))
        next(layer.children()).register_forward_hook(lambda *_, calls=calls: calls.append(1))
        bank = mixed(backbone, torch.float32)
        torch.manual_seed(3)
        ids, mask, _ = padded(backbone, TEXTS, side="left")
        hidden = backbone(ids, mask, None, Injection(bank, torch.tensor(READS)))
        (hidden[mask.bool()] ** 3).sum().backward()
        results.append([hidden.detach()[mask.bool()], *(tensor.grad for tensor in tensors(*bank))])
        runs.append(len(calls))
    assert runs == [1, 2]
    for off, on in zip(*results, strict=True):
        assert torch.equal(off, on)


def test_bf16_is_close_to_float32(family):
    backbone = tiny_backbone(family)
    ids, mask, _ = padded(backbone, TEXTS)
    injection = Injection(mixed(backbone, torch.float32), torch.tensor(READS))
    exact = backbone(ids, mask, None, injection)[mask.bool()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = backbone(ids, mask, None, injection)[mask.bool()].float()
    assert not torch.equal(exact, rough)
    assert (exact - rough).norm() / exact.norm() < 0.05


@pytest.mark.parametrize("family", WRITING)
def test_the_vocabulary_head_is_that_of_transformers(family):
    backbone = tiny_backbone(family, language_model=True, dtype=torch.float64)
    attention = "sdpa" if family == "mistral" else "eager"  # its eager attention overflows in float64
    plain = AutoModelForCausalLM.from_pretrained(backbone.name, attn_implementation=attention, dtype=torch.float64)
    ids, mask, _ = padded(backbone, TEXTS)
    found = backbone.vocabulary_logits(backbone.vocabulary_features(backbone(ids, mask)))
    expected = plain(input_ids=ids, attention_mask=mask, use_cache=False).logits
    same(rows_of(found, mask), rows_of(expected, mask), 1e-5 if family in ROUNDS else 1e-10)


@pytest.mark.parametrize("family", WRITING)
def test_activations_are_what_transformers_keeps_in_its_cache(family):
    backbone = tiny_backbone(family)
    ids = backbone.tokenizer(TEXTS[0])["input_ids"]
    plain = AutoModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
    cache = plain(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
    for site, pair in backbone.activations(ids).items():
        kept = cache.layers[site.layer]
        torch.testing.assert_close(pair.key, kept.keys[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pair.value, kept.values[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [0, 3])
def test_rows_may_take_all_positions_and_no_more(family, shift):
    backbone = tiny_backbone(family)
    backbone.max_length = 10
    prompt = random_prompt(backbone, 3, seed=1, shift_positions=bool(shift), dtype=torch.float32)

    def run(length):
        ids = torch.full((1, length), 5)
        return backbone(ids, torch.ones_like(ids), None, Injection([prompt]))

    assert run(10 - shift).isfinite().all()
    with pytest.raises(BackboneError, match=r"take 11 positions, the model has 10\. Shorten"):
        run(11 - shift)


def test_vectors_of_an_input_prompt_take_positions():
    backbone = tiny_backbone("llama")
    backbone.max_length = 10
    ids = torch.full((2, 8), 5)
    injection = Injection([random_prompt(backbone, 0, seed=1, front=3, dtype=torch.float32)])
    with pytest.raises(BackboneError, match="take 11 positions, the model has 10"):
        backbone(ids, torch.ones_like(ids), None, injection)


def test_clip_takes_no_vectors_and_says_why():
    backbone = tiny_backbone("clip_text_model")
    ids, mask, _ = padded(backbone, TEXTS)
    prompt = Prompt(inputs=InputPrompt(torch.zeros(1, backbone.embedding_size), (Anchor.FRONT,)))
    with pytest.raises(BackboneError, match="a clip_text_model model takes token ids and no embeddings"):
        backbone(ids, mask, None, Injection([prompt]))


def test_a_tokenizer_that_cannot_pad_pads_with_the_end_of_a_text():
    backbone = tiny_backbone("gpt2")
    assert backbone.tokenizer.pad_token_id == backbone.tokenizer.eos_token_id
    backbone.tokenizer(list(TEXTS), padding=True)


def test_a_plan_has_the_same_sites(family):
    backbone = tiny_backbone(family)
    assert dict(plan_backbone(backbone.name).sites) == dict(backbone.sites)
    assert {site.stack for site in backbone.sites} == {"decoder"}


def test_a_compiled_decoder_reads_its_prefix():
    """In several graphs: whether padding must be moved is asked of the mask's numbers. Trunk and prefix are in one."""
    backbone = tiny_backbone("gpt2", num_hidden_layers=1)
    ids, mask, _ = padded(backbone, TEXTS, side="left")
    bank = [random_prompt(backbone, length, seed=length, dtype=torch.float32) for length in (3, 5, 2)]
    injection = Injection(bank, torch.tensor(READS))
    results = []
    for run in (backbone, torch.compile(backbone, backend="aot_eager")):
        hidden = run(ids, mask, None, injection)[mask.bool()]
        results.append([hidden, *torch.autograd.grad((hidden**3).sum(), tensors(*bank))])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-3, atol=1e-3)
