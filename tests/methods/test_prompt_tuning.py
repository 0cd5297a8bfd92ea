"""Prompt tuning: where its vectors start, where they stand, and that no task ever sees them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import foreword as fw
from foreword.data.records import Record
from foreword.errors import BackboneError, MethodError
from foreword.inference.encoding import encode_examples
from foreword.injection import Injection, Prompt
from foreword.methods import Blueprint, FoldedPrompt, PromptTuning, PTuningV2, fold
from foreword.methods.making.initializers import POPULATION
from foreword.model import PromptedModel
from plain import TEXTS, batch_of, collated, row_of, run_by_hand
from tiny import tiny_backbone
from tiny_artifacts import TASKS, records

FAMILIES = ["bert", "roberta"]


class Words:
    """A host with a vocabulary of many words, whose embeddings are their own numbers, and no model behind it."""

    def __init__(self, words: int) -> None:
        self.sites, self.hidden_size, self.embedding_size = {}, 2, 2
        pieces = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused98]", "<unused7>"]
        pieces += [f"word{number}" for number in range(words)]
        vocabulary = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
        vocabulary.pre_tokenizer = pre_tokenizers.Whitespace()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=vocabulary, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        )
        self.tokenizer.add_special_tokens({"mask_token": "[MASK]"})
        self.vocabulary_size = len(pieces) + 5  # a table is often longer than its vocabulary

    def embed(self, ids):
        return torch.stack([ids, -ids], dim=-1).double()


def start_of(host, labels=(), seed=3, **settings):
    torch.manual_seed(seed)
    return PromptTuning(**settings).build(host, labels).vectors.detach()


def table_of(backbone):
    return backbone.model.get_input_embeddings().weight.detach()


def numbers_in(table, rows):
    """Which rows of the table these are; each must be exactly one."""
    found = (rows[:, None] == table[None]).all(-1)
    assert found.any(1).all()
    return found.int().argmax(1).tolist()


def pieces_of(backbone, text):
    """By the tokenizers library itself."""
    return backbone.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids


class TestStart:
    @pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (0.0, 0.5)], ids=["paper", "code"])
    def test_uniform_fills_its_range(self, backbone, low, high):
        start = start_of(backbone, init="uniform", init_low=low, init_high=high, prompt_length=100)
        assert low <= start.min() < low + 0.01
        assert high - 0.01 < start.max() < high
        assert start.mean().item() == pytest.approx((low + high) / 2, abs=0.02)
        assert start.std().item() == pytest.approx((high - low) / 12**0.5, rel=0.05)

    def test_the_papers_range_is_the_default(self):
        assert (PromptTuning().init_low, PromptTuning().init_high) == (-0.5, 0.5)

    @pytest.mark.parametrize("scale", [0.02, 1.0])
    def test_normal_has_its_scale(self, backbone, scale):
        start = start_of(backbone, init="normal", init_scale=scale, prompt_length=100)
        assert start.std().item() == pytest.approx(scale, rel=0.05)
        assert start.abs().max() > 3 * scale

    @pytest.mark.parametrize("family", FAMILIES)
    def test_vocabulary_rows_are_distinct_rows_of_the_table_and_not_special(self, family):
        backbone = tiny_backbone(family)
        start = start_of(backbone, init="vocabulary", prompt_length=50)
        numbers = numbers_in(table_of(backbone), start)
        assert len(set(numbers)) == 50
        assert not set(numbers) & set(backbone.tokenizer.all_special_ids)

    def test_the_vocabulary_is_its_first_5000_entries_without_what_stands_for_no_text(self):
        host = Words(6000)
        allowed = set(range(8, POPULATION))
        start = start_of(host, init="vocabulary", prompt_length=len(allowed))
        assert start.dtype == torch.float32
        assert set(start[:, 0].tolist()) == allowed  # every one of them, so each exactly once
        assert start[:, 0].tolist() != sorted(allowed)

    def test_a_longer_prompt_than_vocabulary_draws_with_replacement(self):
        start = start_of(Words(10), init="vocabulary", prompt_length=200)
        assert set(start[:, 0].tolist()) == set(range(8, 18))

    @pytest.mark.parametrize("family", FAMILIES)
    def test_labels_are_the_mean_of_their_pieces_and_the_rest_is_vocabulary(self, family):
        backbone = tiny_backbone(family)
        table = table_of(backbone)
        labels = ("London", "wonderful houses", "cheap")
        assert max(len(pieces_of(backbone, label)) for label in labels) > 1
        start = start_of(backbone, labels, init="labels", prompt_length=6)
        for row, label in zip(start, labels, strict=False):
            mean = table.double().numpy()[pieces_of(backbone, label)].mean(0)
            np.testing.assert_allclose(row.numpy(), mean, rtol=1e-5, atol=1e-7)
        assert len(set(numbers_in(table, start[3:]))) == 3

    @pytest.mark.parametrize("family", FAMILIES)
    def test_text_is_one_row_per_piece(self, family):
        backbone = tiny_backbone(family)
        pieces = pieces_of(backbone, TEXTS[1])
        table = table_of(backbone)
        cut = start_of(backbone, init="text", init_text=TEXTS[1], prompt_length=4)
        assert torch.equal(cut, table[pieces[:4]])
        filled = start_of(backbone, init="text", init_text=TEXTS[1], prompt_length=len(pieces) + 3)
        assert torch.equal(filled[:-3], table[pieces])
        rest = numbers_in(table, filled[-3:])
        assert len(set(rest)) == 3
        assert not set(rest) & set(backbone.tokenizer.all_special_ids)

    @pytest.mark.parametrize("init", ["uniform", "normal", "vocabulary", "labels", "text"])
    def test_torchs_seed_decides_the_start(self, backbone, init):
        settings = {"init": init, "prompt_length": 12} | ({"init_text": "London"} if init == "text" else {})
        one, same, other = (start_of(backbone, ("it",), seed, **settings) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            ((), "needs a task that has labels"),
            (("a", "b", "c"), "3 labels, but method.prompt_length is 2"),
            (("a", "\u200b"), "has no pieces"),
        ],
    )
    def test_labels_to_start_from_must_be_there_and_fit(self, backbone, labels, message):
        with pytest.raises(MethodError, match=message):
            start_of(backbone, labels, init="labels", prompt_length=2)

    def test_a_backbone_that_reads_images(self):
        host = Words(10)
        host.embedding_size, host.tokenizer = 0, None
        for method in (PromptTuning(), fw.PTuning(), fw.WARP()):
            with pytest.raises(MethodError, match="reads images"):
                method.build(host)

    def test_a_text_without_pieces(self, backbone):
        with pytest.raises(MethodError, match=r"method\.init_text has no pieces"):
            start_of(backbone, init="text", init_text=" ")

    def test_training_leaves_the_backbones_table_alone(self, backbone):
        encoder = PromptTuning(init="text", init_text="London", prompt_length=1).build(backbone)
        before = table_of(backbone).clone()
        with torch.no_grad():
            encoder.vectors.add_(1)
        assert torch.equal(table_of(backbone), before)

    @pytest.mark.parametrize("init", ["uniform", "vocabulary", "labels"])
    def test_shapes_are_known_without_numbers(self, init):
        blueprint = Blueprint(tiny_backbone("electra"))
        state = torch.get_rng_state()
        with torch.device("meta"):
            prompt = fold(PromptTuning(init=init).build(blueprint))
        assert prompt.inputs.vectors.shape == (20, 16)  # ELECTRA's embeddings are narrower than its layers
        assert prompt.inputs.vectors.is_meta
        assert torch.equal(torch.get_rng_state(), state)

    def test_another_prompt(self, backbone):
        given = PromptTuning(prompt_length=3, init="normal").build(backbone)
        for length in (2, 5):
            encoder = PromptTuning(prompt_length=length, placement="end").build(backbone)
            own = encoder.vectors.detach().clone()
            encoder.start_from(fold(given))
            shared = min(length, 3)
            assert torch.equal(encoder.vectors[:shared], given.vectors[:shared])
            assert torch.equal(encoder.vectors[shared:], own[shared:])

    @pytest.mark.parametrize(
        ("method", "family", "message"),
        [
            (PTuningV2(prompt_length=2), "bert", "keys and values"),
            (fw.LayerDeltas(prompt_length=2), "bert", "layer deltas"),
            (PromptTuning(prompt_length=2), "electra", "vectors of 16 numbers, the backbone embeddings of 32"),
        ],
    )
    def test_another_prompt_that_does_not_fit(self, backbone, method, family, message):
        with pytest.raises(MethodError, match=message):
            PromptTuning().build(backbone).start_from(fold(method.build(tiny_backbone(family))))


PLACES = {
    "front": lambda row: 0,
    "after-first": lambda row: 1,
    "before-last": lambda row: len(row) - 1,
    "end": len,
}


@pytest.mark.parametrize("family", [*FAMILIES, "electra"])
@pytest.mark.parametrize("placement", PLACES)
@pytest.mark.parametrize("padding", ["right", "left"])
def test_the_plain_model_on_embeddings_put_together_by_hand(family, placement, padding):
    backbone = tiny_backbone(family)
    encoder = PromptTuning(prompt_length=5, placement=placement, init="uniform").build(backbone)
    vectors = encoder.vectors.detach()
    rows = [row_of(backbone, text) for text in TEXTS] + [row_of(backbone, TEXTS[2], TEXTS[0])]
    batch = batch_of(backbone, rows, padding)
    with torch.no_grad():
        hidden = backbone(**batch, injection=Injection([encoder()]))
        bare = backbone(**batch)
    assert hidden.shape == bare.shape  # text positions and nothing else
    for row, states, without, mask in zip(rows, hidden, bare, batch["attention_mask"].bool(), strict=True):
        place = PLACES[placement](row["input_ids"])
        expected = run_by_hand(backbone, row, [(place, vector) for vector in vectors])
        torch.testing.assert_close(states[mask], expected, rtol=1e-4, atol=1e-5)
        assert (without[mask] - expected).abs().max() > 0.05  # so the comparison says something


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("task", [name for name in TASKS if not TASKS[name].needs_language_model])
def test_no_task_sees_a_virtual_token(family, task):
    """Targets stand where they stood, and [CLS] is the text's own."""
    backbone = tiny_backbone(family)
    wanted = {"pooling": "first", "layers": "last"}
    settings = {name: value for name, value in wanted.items() if name in type(TASKS[task]).model_fields}
    chosen = TASKS[task].model_copy(update=settings)
    items = [Record(item, "tiny", n) for n, item in enumerate(records(task))]
    examples = chosen.read(items, labelled=True)
    chosen = chosen.with_labels_from(examples)
    rows = encode_examples(chosen, examples, backbone, reserved=5).rows
    model = PromptedModel(
        backbone, PromptTuning(prompt_length=5, init="uniform"), chosen.build_head(backbone.hidden_size, backbone)
    ).eval()
    batch = collated(backbone, rows)
    with torch.no_grad():
        logits = model(batch)
        loss = chosen.loss(logits, batch.targets)
    vectors = model.prompt.vectors.detach()
    states = torch.zeros(*batch.input_ids.shape, backbone.hidden_size)
    for number, row in enumerate(rows):
        plain = {"input_ids": row.input_ids}
        if family == "bert":
            plain["token_type_ids"] = row.token_type_ids or [0] * len(row)
        states[number, : len(row)] = run_by_hand(backbone, plain, [(0, vector) for vector in vectors])
    with torch.no_grad():
        expected = model.head(states, batch.attention_mask, batch.marks)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss, chosen.loss(expected, batch.targets), rtol=1e-4, atol=1e-5)


class TestEncoder:
    def test_dropout_is_for_training_alone(self, backbone):
        encoder = PromptTuning(dropout=0.5, init="uniform").build(backbone).eval()
        still = encoder().inputs.vectors
        assert torch.equal(still, encoder.vectors)
        dropped = encoder.train()().inputs.vectors
        gone = dropped == 0
        assert 0.3 < gone.float().mean() < 0.7
        torch.testing.assert_close(dropped[~gone], 2 * still[~gone])

    def test_folded_is_the_vectors_and_shares_no_memory(self, backbone):
        encoder = PromptTuning(dropout=0.5).build(backbone).train()
        prompt = FoldedPrompt(fold(encoder))
        before = encoder.vectors.detach().clone()
        with torch.no_grad():
            encoder.vectors.add_(1)
        assert torch.equal(prompt().inputs.vectors, before)
        assert list(prompt.parameters()) == []
        assert prompt().prefix == {}

    def test_p_times_w_numbers(self, backbone):
        (vectors,) = PromptTuning(prompt_length=7).build(backbone).parameters()
        assert vectors.shape == (7, 32)


class TestPositions:
    def test_vectors_take_positions(self):
        assert PromptTuning(prompt_length=7).positions_taken == 7

    def test_a_text_is_cut_to_what_the_prompt_leaves(self, backbone):
        method = PromptTuning(prompt_length=100)
        task = fw.Classification(labels=("a",))
        examples = task.read([Record({"text": "London " * 60}, "tiny", 0)], labelled=False)
        encoded = encode_examples(task, examples, backbone, reserved=method.positions_taken)
        assert encoded.lengths == [28]
        batch = batch_of(backbone, [{"input_ids": encoded.rows[0].input_ids}])
        assert backbone(**batch, injection=Injection([method.build(backbone)()])).shape == (1, 28, 32)

    def test_a_prompt_that_leaves_no_text_is_refused_with_the_numbers(self, backbone):
        method = PromptTuning(prompt_length=125)
        with pytest.raises(MethodError, match="takes 125 of the backbone's 128 positions and leaves 3 to the text"):
            encode_examples(fw.Classification(), [], backbone, reserved=method.positions_taken)

    def test_the_backbone_itself_refuses_too(self, backbone):
        row = row_of(backbone, TEXTS[0])
        prompt = PromptTuning(prompt_length=125).build(backbone)()
        total = 125 + len(row["input_ids"])
        with pytest.raises(BackboneError, match=f"take {total} positions, the model has 128"):
            backbone(**batch_of(backbone, [row]), injection=Injection([prompt]))

    @pytest.mark.parametrize("padding", ["right", "left"])
    def test_a_long_row_may_stand_beside_a_long_prompt(self, backbone, padding):
        """Each row of a mixed batch fits by itself: together they need no more positions than the longer one."""
        bank = [PromptTuning(prompt_length=100).build(backbone)(), Prompt()]
        rows = [row_of(backbone, TEXTS[0]), row_of(backbone, " ".join(["it"] * 110))]
        batch = batch_of(backbone, rows, padding)
        with torch.no_grad():
            mixed = backbone(**batch, injection=Injection(bank, torch.tensor([0, 1])))
            for number, row in enumerate(rows):
                alone = backbone(**batch_of(backbone, [row]), injection=Injection([bank[number]]))
                mask = batch["attention_mask"][number].bool()
                torch.testing.assert_close(mixed[number, mask], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        {"prompt_length": 0},
        {"placement": "middle"},
        {"init": "zeros"},
        {"init_low": 0.5},
        {"init_scale": 0},
        {"init": "text"},
        {"init_text": "London"},
        {"dropout": 1.0},
        {"length": 3},
    ],
)
def test_settings_that_make_no_sense(bad):
    with pytest.raises(ValidationError):
        PromptTuning(**bad)
