"""Generation with prompts, against loops over models written out by hand: no cache, no batch, float64."""

from __future__ import annotations

import pytest
import torch

from by_hand import TEXTS, Decoder, EncoderDecoder, exactness, random_prompt, surrounded, tensors, unpadded
from foreword.backbones import FAMILIES, continuation_logits, generate
from foreword.errors import BackboneError
from foreword.injection import Injection, Prompt, Site
from tiny import tiny_backbone
from tiny_prompts import padded, same

WRITING = sorted(name for name, family in FAMILIES.items() if family.kind != "encoder" and family.project is not None)
DECODERS = [name for name in WRITING if FAMILIES[name].kind == "decoder"]
READS = [2, 0, 1, 0]
NEW = 7


@pytest.fixture(params=WRITING)
def family(request):
    """Every family that writes text in turn."""
    return request.param


def writer(family, dtype=torch.float64):
    """A fresh one, whose text does not end by itself before it is as long as asked for."""
    backbone = tiny_backbone(family, dtype=dtype, language_model=True)
    backbone.model.generation_config.eos_token_id = None
    return backbone


def mixed(backbone, dtype=torch.float64, **how):
    """Prompts of different lengths: a prefix, a prefix at some layers with vectors around the text, vectors alone."""
    some = [site for site in backbone.sites if site.layer != 0]
    return [
        random_prompt(backbone, 3, seed=1, dtype=dtype, **how),
        random_prompt(backbone, 5, seed=2, sites=some, dtype=dtype, front=2, end=1, **how),
        random_prompt(backbone, 0, seed=3, dtype=dtype, front=1),
    ]


class ByHand:
    """What a model thinks of the next token, made from scratch for every token.

    Args:
        backbone: whose files are used.
        row: token ids of one text.
        prompt: of that text.
    """

    def __init__(self, backbone, row, prompt):
        decoder = backbone.kind == "decoder"
        self.model = (Decoder if decoder else EncoderDecoder)(backbone)
        self.prompt, (self.given, _) = prompt, surrounded(self.model, row, prompt)
        self.encoded = None if decoder else self.model.encode(self.given, prompt)

    @torch.no_grad()
    def logits(self, written):
        """``(U + 1, V)``: of every written token, and of the one to come."""
        written = torch.tensor(written, dtype=torch.long)
        if self.encoded is not None:
            start = torch.tensor([self.model.config["decoder_start_token_id"]])
            return self.model.logits(self.model.decode(torch.cat([start, written]), self.encoded, self.prompt))
        embedded = torch.cat([self.given, self.model.embed(written)])
        return self.model.logits(self.model.row(embedded, self.prompt, len(self.given))[len(self.given) - 1 :])

    def greedy(self, count=NEW):
        written = []
        for _ in range(count):
            written.append(int(self.logits(written)[-1].argmax()))
        return written

    def beam(self, width, count=NEW):
        """The best of beam search, where no text ends before it has all its tokens."""
        beams = [(0.0, [])]
        for _ in range(count):
            longer = []
            for score, written in beams:
                scores = self.logits(written)[-1].log_softmax(-1)
                longer += [(score + float(scores[token]), [*written, int(token)]) for token in scores.topk(width)[1]]
            beams = sorted(longer, key=lambda one: -one[0])[:width]
        return beams[0][1]


def loops(backbone, ids, mask, prompts):
    return [ByHand(backbone, row, prompt) for row, prompt in zip(unpadded(ids, mask), prompts, strict=True)]


@pytest.mark.parametrize("side", ["right", "left"])
def test_greedy_is_the_loop_by_hand(family, side):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS, side=side, extra=2)
    bank = mixed(backbone)
    found = generate(backbone, ids, mask, Injection(bank, torch.tensor(READS)), max_new_tokens=NEW)
    expected = [loop.greedy() for loop in loops(backbone, ids, mask, [bank[read] for read in READS])]
    assert found.tolist() == expected
    assert len({tuple(row) for row in expected}) > 1


def test_beam_search_is_the_loop_by_hand(family):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS, side="left")
    bank = mixed(backbone)
    found = generate(backbone, ids, mask, Injection(bank, torch.tensor(READS)), max_new_tokens=4, num_beams=3)
    expected = [loop.beam(3, 4) for loop in loops(backbone, ids, mask, [bank[read] for read in READS])]
    assert found.tolist() == expected


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 2}])
def test_a_growing_cache_is_no_cache(family, settings):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS)
    injection = Injection(mixed(backbone), torch.tensor(READS))
    with_cache, without = (
        generate(backbone, ids, mask, injection, max_new_tokens=NEW, use_cache=use, **settings) for use in (True, False)
    )
    assert torch.equal(with_cache, without)
    assert with_cache.shape == (len(TEXTS) * settings.get("num_return_sequences", 1), NEW)


@pytest.mark.parametrize("settings", [{}, {"num_beams": 3}])
def test_a_row_of_a_batch_is_the_row_alone(family, settings):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS, side="left")
    bank = mixed(backbone)
    together = generate(backbone, ids, mask, Injection(bank, torch.tensor(READS)), max_new_tokens=NEW, **settings)
    for number, row in enumerate(unpadded(ids, mask)):
        one, all_ = Injection([bank[READS[number]]]), torch.ones_like(row)[None]
        alone = generate(backbone, row[None], all_, one, max_new_tokens=NEW, **settings)
        assert alone[0].tolist() == together[number].tolist()


@pytest.mark.parametrize("how", ["infix", "shift_positions"])
@pytest.mark.parametrize("family", DECODERS)
def test_infixes_and_shifted_positions_are_the_loop_by_hand(family, how):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS, side="right")
    bank = [random_prompt(backbone, 2, seed=9), *mixed(backbone, **{how: True})[:2]]
    found = generate(backbone, ids, mask, Injection(bank, torch.tensor(READS)), max_new_tokens=NEW)
    assert found.tolist() == [loop.greedy() for loop in loops(backbone, ids, mask, [bank[read] for read in READS])]


def test_the_gate_is_there_while_writing(family):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS)
    bank = [*mixed(backbone, gated=True)[:2], random_prompt(backbone, 2, seed=9)]
    found = generate(backbone, ids, mask, Injection(bank, torch.tensor(READS)), max_new_tokens=NEW)
    assert found.tolist() == [loop.greedy() for loop in loops(backbone, ids, mask, [bank[read] for read in READS])]


def test_without_a_prompt_it_is_the_generate_of_transformers(family):
    backbone = writer(family, torch.float32)
    side = "left" if backbone.kind == "decoder" else "right"  # BART alone counts padding among its positions
    ids, mask, _ = padded(backbone, TEXTS, side=side)
    expected = backbone.model.generate(ids, attention_mask=mask, max_new_tokens=NEW, num_beams=2, pad_token_id=0)
    start = 1 if backbone.kind == "encoder-decoder" else ids.shape[1]
    found = generate(backbone, ids, mask, max_new_tokens=NEW, num_beams=2)
    assert torch.equal(found, expected[:, start:])


@pytest.mark.parametrize("family", ["gpt2", "mistral", "t5"])
@pytest.mark.parametrize("settings", [{"cache_implementation": "static"}, {"prefill_chunk_size": 3}])
def test_other_ways_to_keep_a_cache_change_nothing(family, settings):
    backbone = writer(family)
    bank = [random_prompt(backbone, 3, seed=1), random_prompt(backbone, 5, seed=2)]
    ids, mask, _ = padded(backbone, [TEXTS[2]] * 2)  # nothing is hidden, so transformers leaves the mask to causality
    if backbone.kind == "encoder-decoder":
        settings = {key: value for key, value in settings.items() if key != "prefill_chunk_size"}
    injection = Injection(bank, torch.tensor([0, 1]))
    expected = generate(backbone, ids, mask, injection, max_new_tokens=NEW)
    assert torch.equal(generate(backbone, ids, mask, injection, max_new_tokens=NEW, **settings), expected)


def test_no_prefix_enters_the_cache(family):
    backbone = writer(family, torch.float32)
    lengths = []
    backbone.model.register_forward_hook(lambda *given: lengths.append(given[-1].past_key_values.get_seq_length()))
    ids, mask, _ = padded(backbone, [TEXTS[2]])
    injection = Injection([random_prompt(backbone, 6, seed=1, dtype=torch.float32)])
    generate(backbone, ids, mask, injection, max_new_tokens=3)
    first = ids.shape[1] if backbone.kind == "decoder" else 1
    assert lengths == [first, first + 1, first + 2]


def test_a_text_that_ends_is_padded_on_the_right(family):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS)
    injection = Injection(mixed(backbone), torch.tensor(READS))
    whole = generate(backbone, ids, mask, injection, max_new_tokens=NEW)
    end, pad = int(whole[0, 2]), backbone.tokenizer.pad_token_id
    found = generate(backbone, ids, mask, injection, max_new_tokens=NEW, eos_token_id=end)
    for row, written in zip(found.tolist(), whole.tolist(), strict=True):
        length = written.index(end) + 1 if end in written else NEW
        assert row == (written[:length] + [pad] * NEW)[: found.shape[1]]


def test_sampling_draws_from_the_prompted_model(family):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS, side="left")
    injection = Injection(mixed(backbone), torch.tensor(READS))
    greedy = generate(backbone, ids, mask, injection, max_new_tokens=NEW)
    only = generate(backbone, ids, mask, injection, max_new_tokens=NEW, do_sample=True, top_k=1, num_return_sequences=3)
    assert torch.equal(only, greedy.repeat_interleave(3, 0))


def test_penalties_count_the_tokens_of_the_text_and_no_others(family):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, [TEXTS[2]])
    prompt = mixed(backbone)[1]
    name = "repetition_penalty" if backbone.kind == "decoder" else "encoder_repetition_penalty"
    found = generate(backbone, ids, mask, Injection([prompt]), max_new_tokens=1, **{name: 1e6})
    logits = ByHand(backbone, ids[0], prompt).logits([])[-1]
    seen = torch.zeros_like(logits, dtype=torch.bool)
    seen[ids[0]] = True
    if backbone.kind == "decoder":
        expected = logits.where(~seen, logits.where(logits < 0, logits / 1e6).where(logits > 0, logits * 1e6)).argmax()
    else:  # the other way round: tokens of the source are made likelier
        expected = logits.where(~seen, logits.where(logits < 0, logits * 1e6).where(logits > 0, logits / 1e6)).argmax()
    assert found.tolist() == [[int(expected)]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_logits_of_a_continuation_are_those_of_the_loop(family, side):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS, side=side)
    bank = mixed(backbone)
    written = torch.tensor([[7, 50, 9, 2], [30, 2, -100, -100], [11, 12, 13, -100], [90, -100, -100, -100]])
    found = continuation_logits(backbone, ids, mask, written, Injection(bank, torch.tensor(READS)))
    assert found.shape == (*written.shape, backbone.vocabulary_size)
    expected = [
        loop.logits(row[row >= 0][:-1].tolist())
        for loop, row in zip(loops(backbone, ids, mask, [bank[read] for read in READS]), written, strict=True)
    ]
    same([logits[row >= 0] for logits, row in zip(found, written, strict=True)], expected, exactness(family))
    gradients = torch.autograd.grad(found[written >= 0].pow(2).sum(), tensors(*bank))
    assert all((gradient != 0).any() for gradient in gradients)


def test_greedy_is_what_the_logits_of_its_own_text_say(family):
    backbone = writer(family)
    ids, mask, _ = padded(backbone, TEXTS)
    injection = Injection(mixed(backbone), torch.tensor(READS))
    written = generate(backbone, ids, mask, injection, max_new_tokens=NEW)
    assert torch.equal(continuation_logits(backbone, ids, mask, written, injection).argmax(-1), written)


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5"])
def test_deltas_of_layers_are_there_from_the_first_token_to_the_last(family):
    backbone = writer(family)
    prompt = mixed(backbone)[1]
    deltas = {layer: torch.randn(3, 32, dtype=torch.float64) for layer in (0, 1, 2)}
    with_deltas = Prompt(prompt.prefix, type(prompt.inputs)(prompt.inputs.vectors, prompt.inputs.anchors, deltas))
    ids, mask, _ = padded(backbone, TEXTS)
    results = [generate(backbone, ids, mask, Injection([p]), max_new_tokens=NEW) for p in (with_deltas, prompt)]
    without_cache = generate(backbone, ids, mask, Injection([with_deltas]), max_new_tokens=NEW, use_cache=False)
    assert torch.equal(results[0], without_cache)
    assert not torch.equal(*results)


def test_the_backbone_is_left_as_it_was():
    backbone = writer("gpt2", torch.float32)
    ids, mask, _ = padded(backbone, TEXTS)
    injection = Injection(mixed(backbone, torch.float32), torch.tensor(READS))
    before = backbone(ids, mask)
    expected = generate(backbone, ids, mask, injection, max_new_tokens=NEW)
    backbone.regularize(hidden=0.5, attention=0.5)
    backbone.gradient_checkpointing()
    backbone.train()
    assert torch.equal(generate(backbone, ids, mask, injection, max_new_tokens=NEW), expected)
    assert backbone.training
    assert backbone.model.training
    backbone.eval()
    assert torch.equal(backbone(ids, mask), before)
    assert "forward" not in vars(backbone.model)


class TestRefused:
    def test_what_writes_no_text(self):
        for name in ("bert", "clip_text_model", "vit"):
            backbone, ids = tiny_backbone(name), torch.ones((1, 3), dtype=torch.long)
            for ask in (
                lambda b=backbone, i=ids: generate(b, i, i, max_new_tokens=3),
                lambda b=backbone, i=ids: continuation_logits(b, i, i, i),
            ):
                with pytest.raises(BackboneError, match=f"a {name} model writes no text"):
                    ask()

    def test_a_backbone_without_its_vocabulary_head(self, family):
        backbone, ids = tiny_backbone(family), torch.ones((1, 3), dtype=torch.long)
        with pytest.raises(BackboneError, match="Load it with language_model=True"):
            generate(backbone, ids, ids, max_new_tokens=3)
        with pytest.raises(BackboneError, match="Load it with language_model=True"):
            continuation_logits(backbone, ids, ids, ids)

    @pytest.mark.parametrize("name", ["past_key_values", "inputs_embeds", "generation_config", "guidance_scale"])
    def test_settings_that_are_ours(self, name):
        backbone, ids = writer("gpt2"), torch.ones((1, 3), dtype=torch.long)
        with pytest.raises(BackboneError, match=f"'{name}' cannot be chosen"):
            generate(backbone, ids, ids, max_new_tokens=3, **{name: 1})

    @pytest.mark.parametrize("name", ["prefill_chunk_size", "cache_implementation", "prompt_lookup_num_tokens"])
    def test_settings_that_count_the_cache(self, name):
        backbone, ids = writer("gpt2"), torch.ones((1, 3), dtype=torch.long)
        injection = Injection([random_prompt(backbone, 0, seed=1, front=1)])
        with pytest.raises(BackboneError, match=f"'{name}' cannot be used with an input prompt"):
            generate(backbone, ids, ids, injection, max_new_tokens=3, **{name: 1})

    def test_settings_that_nobody_knows(self):
        backbone, ids = writer("gpt2"), torch.ones((1, 3), dtype=torch.long)
        with pytest.raises(ValueError, match="nun_beams"):
            generate(backbone, ids, ids, max_new_tokens=3, nun_beams=3)

    @pytest.mark.parametrize("shift", [False, True])
    def test_more_than_there_are_positions_for(self, shift):
        backbone = writer("gpt2", torch.float32)
        backbone.max_length = 12
        ids, mask, _ = padded(backbone, ["It", TEXTS[0]], side="left", extra=20)  # padding takes none
        taken = int(mask.sum(1).max()) + 2 + (3 if shift else 0)
        some = [Site("decoder", 0)]
        prompt = random_prompt(backbone, 3, seed=1, sites=some, front=2, shift_positions=shift, dtype=torch.float32)
        last = 12 - taken + 1  # what is written last is never read
        assert generate(backbone, ids, mask, Injection([prompt]), max_new_tokens=last).shape == (2, last)
        with pytest.raises(BackboneError, match="take 13 positions, the model has 12"):
            generate(backbone, ids, mask, Injection([prompt]), max_new_tokens=last + 1)
        with pytest.raises(BackboneError, match="take 13 positions, the model has 12"):
            continuation_logits(backbone, ids, mask, ids[:, : last + 1], Injection([prompt]))

    def test_more_than_the_decoder_of_an_encoder_decoder_has_positions_for(self):
        backbone, ids = writer("bart"), torch.ones((1, 3), dtype=torch.long)
        with pytest.raises(BackboneError, match="129 new tokens, the model's decoder has 128 positions"):
            generate(backbone, ids, ids, max_new_tokens=129)

    def test_a_row_without_a_token(self):
        backbone = writer("gpt2")
        ids, mask = torch.ones((2, 3), dtype=torch.long), torch.tensor([[1, 1, 1], [0, 0, 0]])
        with pytest.raises(BackboneError, match="row 1 of the batch has no token"):
            generate(backbone, ids, mask, max_new_tokens=3)
        prompt = random_prompt(backbone, 0, seed=1, front=1)
        assert generate(backbone, ids, mask, Injection([prompt]), max_new_tokens=3).shape == (2, 3)
