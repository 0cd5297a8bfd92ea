"""T5 and BART with prompts, against models written out by hand in float64 and against transformers alone."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from by_hand import TEXTS, EncoderDecoder, exactness, random_prompt, surrounded, tensors, unpadded
from foreword.backbones import continuation_logits, load_backbone, plan_backbone
from foreword.errors import BackboneError
from foreword.injection import Anchor, Injection, Site
from tiny import tiny_backbone, tiny_backbone_folder
from tiny_prompts import padded, rows_of, same

KINDS = ["t5", "t5-1.1", "bart"]
READS = [2, 0, 1, 0]
WRITTEN = torch.tensor([[7, 50, 9, 2, 0], [30, 2, 0, 0, 0], [11, 12, 13, 14, 2], [90, 80, 70, 2, 0]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Weights with a vocabulary head: T5 1.1 has gated layers and output embeddings of its own, BART a bias."""
    folder = tmp_path_factory.mktemp("seq2seq")
    for name in KINDS:
        changes = {"feed_forward_proj": "gated-gelu"} if name == "t5-1.1" else {}
        tiny_backbone_folder(name.removesuffix("-1.1"), folder / name, language_model=True, **changes)
    generator = torch.Generator().manual_seed(0)
    weights = load_file(folder / "t5-1.1" / "model.safetensors")
    weights["lm_head.weight"] = torch.randn(weights["shared.weight"].shape, generator=generator)
    save_file(weights, folder / "t5-1.1" / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "t5-1.1" / "config.json").read_text())
    config.pop("scale_decoder_outputs", None)  # as published: what is said of tying says it
    (folder / "t5-1.1" / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    weights = load_file(folder / "bart" / "model.safetensors")
    weights["final_logits_bias"] = torch.randn(weights["final_logits_bias"].shape, generator=generator)
    save_file(weights, folder / "bart" / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(params=KINDS)
def load(request, folders):
    """Loads one of them after the other."""

    def make(*, language_model=True, dtype=torch.float64):
        return load_backbone(str(folders / request.param), dtype=dtype, language_model=language_model)

    return make


def mixed(backbone, dtype=torch.float64, **how):
    """Prompts of different lengths: at all sites, at some of each stack, and beside vectors around the text."""
    some = [site for site in backbone.sites if site.layer != 0]
    return [
        random_prompt(backbone, 3, seed=1, dtype=dtype, **how),
        random_prompt(backbone, 5, seed=2, sites=some, dtype=dtype, front=2, end=1, **how),
        random_prompt(backbone, 0, seed=3, dtype=dtype, front=1, **how),
    ]


def by_hand(backbone, ids, mask, prompts, written=None):
    """Of each row the encoder's states at the text, or the logits of what was written."""
    reference, found = EncoderDecoder(backbone), []
    for number, (row, prompt) in enumerate(zip(unpadded(ids, mask), prompts, strict=True)):
        embedded, text = surrounded(reference, row, prompt)
        encoded = reference.encode(embedded, prompt)
        if written is None:
            found.append(encoded[text])
        else:
            start = torch.tensor([reference.config["decoder_start_token_id"]])
            before = torch.cat([start, written[number][:-1]])
            found.append(reference.logits(reference.decode(before, encoded, prompt)))
    return found


def equal_with_gradients(found, expected, prompts, tolerance):
    same(found, expected, tolerance)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(one.shape, generator=generator, dtype=torch.float64) for one in expected]
    gradients = [
        torch.autograd.grad(sum((r * w).sum() for r, w in zip(results, weights, strict=True)), tensors(*prompts))
        for results in (found, expected)
    ]
    assert all(gradient.abs().max() > 1e-6 for gradient in gradients[1])
    same(*gradients, 20 * tolerance)


@pytest.mark.parametrize("side", ["right", "left"])
class TestAgainstTheModelByHand:
    @pytest.mark.parametrize("language_model", [False, True])
    def test_the_encoder(self, load, side, language_model):
        backbone = load(language_model=language_model)
        sites = [site for site in backbone.sites if site.stack == "encoder"]
        bank = [random_prompt(backbone, 3, seed=1, sites=sites, end=2), random_prompt(backbone, 2, seed=2, sites=sites)]
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        found = rows_of(backbone(ids, mask, None, Injection(bank, torch.tensor([0, 1, 0, 1]))), mask)
        expected = by_hand(backbone, ids, mask, [bank[0], bank[1]] * 2)
        equal_with_gradients(found, expected, bank, exactness(backbone.family))

    def test_logits_of_what_was_written(self, load, side):
        backbone = load()
        bank = mixed(backbone)
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        found = continuation_logits(backbone, ids, mask, WRITTEN, Injection(bank, torch.tensor(READS)))
        expected = by_hand(backbone, ids, mask, [bank[read] for read in READS], WRITTEN)
        equal_with_gradients(list(found), expected, bank, exactness(backbone.family))

    def test_logits_with_gated_prefixes(self, load, side):
        backbone = load()
        bank = [*mixed(backbone, gated=True)[:2], random_prompt(backbone, 2, seed=9)]
        ids, mask, _ = padded(backbone, TEXTS, side=side)
        found = continuation_logits(backbone, ids, mask, WRITTEN, Injection(bank, torch.tensor(READS)))
        expected = by_hand(backbone, ids, mask, [bank[read] for read in READS], WRITTEN)
        equal_with_gradients(list(found), expected, bank, exactness(backbone.family))


def test_without_a_prompt_logits_are_those_of_transformers(load):
    backbone = load()
    plain = AutoModelForSeq2SeqLM.from_pretrained(backbone.name, attn_implementation="eager", dtype=torch.float64)
    ids, mask, _ = padded(backbone, TEXTS)
    labels = WRITTEN.masked_fill(WRITTEN == 0, -100)
    expected = plain.eval()(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).logits
    found = continuation_logits(backbone, ids, mask, labels)
    same([found[labels >= 0]], [expected[labels >= 0]], exactness(backbone.family))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(("front", "end"), [(3, 0), (0, 2)])
def test_vectors_before_and_behind_the_text_are_those_of_a_plain_run(load, side, front, end):
    backbone = load(dtype=torch.float32)
    plain = AutoModelForSeq2SeqLM.from_pretrained(backbone.name, attn_implementation="eager").eval()
    prompt = random_prompt(backbone, 0, seed=1, front=front, end=end, dtype=torch.float32)
    ids, mask, _ = padded(backbone, TEXTS, side=side)
    hidden = rows_of(backbone(ids, mask, None, Injection([prompt])), mask)
    logits = continuation_logits(backbone, ids, mask, WRITTEN, Injection([prompt]))
    for number, row in enumerate(unpadded(ids, mask)):
        vectors, table = prompt.inputs.vectors, plain.get_input_embeddings()
        embedded = torch.cat([vectors[:front], table(row), vectors[front:]])[None]
        out = plain(inputs_embeds=embedded, labels=WRITTEN[number : number + 1])
        states = out.encoder_last_hidden_state[0, front : front + len(row)]
        torch.testing.assert_close(hidden[number], states, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits[number], out.logits[0], rtol=1e-3, atol=1e-3)


def test_each_stack_has_its_sites_and_as_many_as_it_has_layers(load):
    whole, encoder = load(), load(language_model=False)
    expected = {Site("encoder", layer) for layer in range(3)}
    assert set(encoder.sites) == expected
    assert set(whole.sites) == expected | {Site(stack, layer) for stack in ("decoder", "cross") for layer in range(2)}
    assert dict(plan_backbone(whole.name).sites) == dict(whole.sites)


def test_the_encoder_alone_is_that_of_the_whole(load):
    whole, encoder = load(), load(language_model=False)
    ids, mask, _ = padded(whole, TEXTS)
    assert torch.equal(whole(ids, mask), encoder(ids, mask))
    assert whole.identity.weights == encoder.identity.weights
    assert encoder.parameter_count < whole.parameter_count


@pytest.mark.parametrize("stack", ["encoder", "cross", "decoder"])
def test_every_tensor_of_a_stack_matters_where_it_should(load, stack):
    backbone = load()
    ids, mask, _ = padded(backbone, TEXTS)
    whole = random_prompt(backbone, 3, seed=1, sites=[site for site in backbone.sites if site.stack == stack])

    def run(prompt):
        injection = Injection([prompt])
        hidden = backbone(ids, mask, None, injection)[mask.bool()]
        return hidden, continuation_logits(backbone, ids, mask, WRITTEN, injection)

    hidden, logits = run(whole)
    for number in range(len(tensors(whole))):
        places = iter(range(len(tensors(whole))))
        changed = whole.map(lambda t, places=places, number=number: t + 0.5 * t.sign() * (next(places) == number))
        other_hidden, other_logits = run(changed)
        assert torch.equal(hidden, other_hidden) == (stack != "encoder")
        assert ((logits - other_logits).abs().amax(-1) > 1e-7).all()


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradient_checkpointing_changes_nothing(load, dropout):
    results, runs = [], []
    for checkpointing in (False, True):
        backbone = load(dtype=torch.float32)
        backbone.regularize(hidden=dropout, attention=dropout)
        backbone.gradient_checkpointing(checkpointing)
        backbone.train()
        calls = []
        for stack in (backbone.model.get_encoder(), backbone.model.get_decoder()):
            layers = next(module for module in stack.children() if isinstance(module, torch.nn.ModuleList))
            linear = next(module for module in layers[1].modules() if isinstance(module, torch.nn.Linear))
            linear.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        bank = mixed(backbone, torch.float32)
        ids, mask, _ = padded(backbone, TEXTS, side="left")
        torch.manual_seed(3)
        logits = continuation_logits(backbone, ids, mask, WRITTEN, Injection(bank, torch.tensor(READS)))
        logits.log_softmax(-1).gather(2, WRITTEN[:, :, None]).sum().backward()
        results.append([logits.detach(), *(tensor.grad for tensor in tensors(*bank))])
        runs.append(len(calls))
    assert runs == [2, 4]
    for off, on in zip(*results, strict=True):
        if backbone.family == "t5" and not dropout:  # it wants gradients of its bias then: another kernel
            torch.testing.assert_close(off, on, rtol=1e-3, atol=1e-4)
        else:
            assert torch.equal(off, on)


def test_dropout_runs_only_when_asked_for(load):
    backbone = load(dtype=torch.float32)
    ids, mask, _ = padded(backbone, TEXTS)
    plain = backbone(ids, mask)
    backbone.gradient_checkpointing()
    backbone.train()
    assert backbone.model.training
    assert torch.equal(backbone(ids, mask), plain)  # BART's layers call the function with a number of their own
    backbone.regularize(hidden=0.3)
    assert not torch.allclose(backbone(ids, mask), plain)
    backbone.regularize(attention=0.3)
    assert not torch.allclose(backbone(ids, mask), plain)


def test_bf16_is_close_to_float32(load):
    backbone = load(dtype=torch.float32)
    ids, mask, _ = padded(backbone, TEXTS)
    injection = Injection(mixed(backbone, torch.float32), torch.tensor(READS))
    exact = continuation_logits(backbone, ids, mask, WRITTEN, injection)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = continuation_logits(backbone, ids, mask, WRITTEN, injection).float()
    assert not torch.equal(exact, rough)
    assert (exact - rough).norm() / exact.norm() < 0.05


def test_activations_are_what_transformers_keeps_in_its_caches(load):
    backbone = load(dtype=torch.float32)
    ids = torch.tensor([backbone.tokenizer(TEXTS[0])["input_ids"]])
    plain = AutoModelForSeq2SeqLM.from_pretrained(backbone.name, attn_implementation="eager").eval()
    cache = plain(input_ids=ids, decoder_input_ids=ids, use_cache=True).past_key_values
    kept = {"decoder": cache.self_attention_cache, "cross": cache.cross_attention_cache}
    found = backbone.activations(ids[0].tolist())
    assert found.keys() == backbone.sites.keys()
    for site, pair in found.items():
        if site.stack in kept:
            layer = kept[site.stack].layers[site.layer]
            torch.testing.assert_close(pair.key, layer.keys[0], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(pair.value, layer.values[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("how", "message"),
    [({"shift_positions": True}, r"cannot be shifted"), ({"infix": True}, r"no decoder, .*\(infix\)")],
)
def test_prompts_that_cannot_be_placed_are_refused(load, how, message):
    backbone = load(dtype=torch.float32)
    ids, mask, _ = padded(backbone, TEXTS)
    injection = Injection([random_prompt(backbone, 2, seed=1, dtype=torch.float32, **how)])
    with pytest.raises(BackboneError, match=message):
        backbone(ids, mask, None, injection)
    with pytest.raises(BackboneError, match=message):
        continuation_logits(backbone, ids, mask, WRITTEN, injection)


def test_t5_has_no_limit_but_its_tokenizers(folders):
    backbone = load_backbone(str(folders / "t5"))
    assert backbone.max_length == backbone.tokenizer.model_max_length == 128
    backbone.max_length = 300
    ids = torch.full((1, 297), 5)
    prompt = random_prompt(backbone, 0, seed=1, front=3, dtype=torch.float32)
    assert backbone(ids, torch.ones_like(ids), None, Injection([prompt])).isfinite().all()
    assert prompt.inputs.anchors == (Anchor.FRONT,) * 3


def test_bart_has_as_many_positions_as_its_table(folders):
    backbone = load_backbone(str(folders / "bart"), language_model=True)
    ids = torch.full((1, 129), 5)
    with pytest.raises(BackboneError, match="take 129 positions, the model has 128"):
        backbone(ids, torch.ones_like(ids), None, Injection([random_prompt(backbone, 1, seed=1, dtype=torch.float32)]))
    with pytest.raises(BackboneError, match="129 new tokens, the model's decoder has 128 positions"):
        continuation_logits(backbone, ids[:, :3], torch.ones_like(ids[:, :3]), ids)


def test_a_compiled_encoder_reads_its_prefix():
    """In several graphs: whether padding must be moved is asked of the mask's numbers. Trunk and prefix are in one."""
    backbone = tiny_backbone("t5", num_layers=1, num_decoder_layers=1)
    ids, mask, _ = padded(backbone, TEXTS, side="left")
    bank = [random_prompt(backbone, length, seed=length, dtype=torch.float32) for length in (3, 5, 2)]
    results = []
    for run in (backbone, torch.compile(backbone, backend="aot_eager")):
        hidden = run(ids, mask, None, Injection(bank, torch.tensor(READS)))[mask.bool()]
        results.append([hidden, *torch.autograd.grad((hidden**3).sum(), tensors(*bank))])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(plain, compiled, rtol=1e-3, atol=1e-3)
