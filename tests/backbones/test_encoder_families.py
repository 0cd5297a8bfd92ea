"""Every family of encoders beside BERT's, against encoders written out by hand in float64 (`reference_encoders.py`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager
from transformers import AutoModel, AutoModelForMaskedLM, DebertaV2Tokenizer

from foreword.backbones import FAMILIES, load_backbone
from foreword.errors import BackboneError
from foreword.injection import Anchor, Injection, InputPrompt, KeyValue, Prompt, Site
from reference_encoders import ROWS_OF
from tiny import tiny_backbone, tiny_backbone_folder, tiny_sentencepiece_tokenizer
from tiny_prompts import ROWS, TEXTS, leaves, padded, rows_of, same


@dataclass(frozen=True)
class Case:
    """One architecture within a family.

    Attributes:
        family: its family.
        changes: to the config of the family's tiny model.
        layers: how many there are.
    """

    family: str
    changes: dict[str, Any] = field(default_factory=dict)
    layers: int = 3

    def backbone(self, dtype=torch.float64):
        return tiny_backbone(self.family, dtype=dtype, **self.changes)


CASES = {
    "albert": Case("albert"),
    "albert-inner": Case("albert", {"inner_group_num": 2}, 6),
    "albert-groups": Case("albert", {"num_hidden_groups": 2, "inner_group_num": 2, "num_hidden_layers": 5}, 10),
    "distilbert": Case("distilbert"),
    "modernbert": Case("modernbert"),
    "mpnet": Case("mpnet"),
    "deberta": Case("deberta"),
    "deberta-narrow": Case(
        "deberta",
        {
            "embedding_size": 16,
            "type_vocab_size": 0,
            "max_relative_positions": -1,
            "position_biased_input": False,
            "pos_att_type": ["p2c"],
        },
    ),
    "deberta-v2": Case("deberta-v2"),
    "deberta-v2-conv": Case(
        "deberta-v2",
        {
            "conv_kernel_size": 3,
            "conv_act": "tanh",
            "position_buckets": 32,
            "position_biased_input": True,
            "share_att_key": False,
            "type_vocab_size": 2,
        },
    ),
    "deberta-v2-no-buckets": Case(
        "deberta-v2",
        {
            "position_buckets": -1,
            "max_relative_positions": 5,
            "norm_rel_ebd": "none",
            "pos_att_type": ["c2p"],
            "embedding_size": 16,
            "share_att_key": False,
        },
    ),
}
EVERY_CASE = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
SIDES = pytest.mark.parametrize("side", ["right", "left"])


def tolerance(case):
    """These two models round to float32 inside, whatever they are given."""
    return 1e-5 if case.family in ("deberta", "modernbert") else 1e-10


def numbers(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def prefix(length, layers, *, seed, gated=False):
    """Random keys and values, and gates where asked for."""
    pairs = {}
    for layer in layers:
        key, value = (numbers(4, length, 8, seed=100 * seed + 2 * layer + part) for part in range(2))
        pairs[Site("encoder", layer)] = KeyValue(key, value, numbers(4, seed=seed + layer) if gated else None)
    return pairs


def mixed_bank(layers):
    """Prompts of different lengths that cover different layers, one of them with gates."""
    return [
        Prompt(prefix(2, range(layers), seed=1)),
        Prompt(prefix(5, range(0, layers, 2), seed=2, gated=True)),
        Prompt(prefix(3, range(1, layers), seed=3)),
    ]


def tensors(prompts):
    """Everything in the prompts that could be trained."""
    found = leaves(prompts)
    found += [pair.gate for prompt in prompts for pair in prompt.prefix.values() if pair.gate is not None]
    for inputs in (prompt.inputs for prompt in prompts if prompt.inputs is not None):
        found += [inputs.vectors, *inputs.deltas.values()]
    return found


def agree(found, expected, trained, exactness):
    """Same hidden states per row, and the same gradients for everything trained."""
    same(found, expected, exactness)
    weights = [numbers(*row.shape, seed=5).detach() for row in expected]
    ours, theirs = (
        torch.autograd.grad(sum((h * w).sum() for h, w in zip(rows, weights, strict=True)), trained)
        for rows in (found, expected)
    )
    assert all(gradient.abs().max() > 1e-6 for gradient in theirs)
    same(ours, theirs, 10 * exactness)


def bare_rows(reference, inputs):
    """For every row its embedded tokens and its types, without padding."""
    words = reference.weights[reference.words]
    return [(words[ids[m.bool()]], types[m.bool()]) for ids, m, types in zip(*inputs, strict=True)]


@EVERY_CASE
@SIDES
class TestAgainstRowsByHand:
    def test_prompts_of_different_kinds_and_lengths(self, case, side):
        backbone = case.backbone()
        inputs, prompts = padded(backbone, side=side), mixed_bank(case.layers)
        assert (inputs[1] == 0).any()
        reference = ROWS_OF[case.family](backbone.name)
        rows = zip(bare_rows(reference, inputs), ROWS, strict=True)
        expected = [reference.row(*row, prompts[number].prefix) for row, number in rows]
        found = rows_of(backbone(*inputs, Injection(prompts, torch.tensor(ROWS))), inputs[1])
        agree(found, expected, tensors(prompts), tolerance(case))

    def test_one_prompt_for_rows_without_padding(self, case, side):
        backbone = case.backbone()
        inputs, prompts = padded(backbone, [TEXTS[1]] * 2, side=side), [Prompt(prefix(4, range(case.layers), seed=1))]
        assert inputs[1].all()
        reference = ROWS_OF[case.family](backbone.name)
        expected = [reference.row(*row, prompts[0].prefix) for row in bare_rows(reference, inputs)]
        found = rows_of(backbone(*inputs, Injection(prompts)), inputs[1])
        agree(found, expected, tensors(prompts), tolerance(case))


PAIRS = [("Anna visited London.", "It"), ("Peter didn't like it.", "Nobody has never seen New York-based banks.")]
ANCHORS = (Anchor.END, Anchor.FRONT, Anchor.BETWEEN, Anchor.AFTER_FIRST, Anchor.BETWEEN, Anchor.BEFORE_LAST)


def pairs_of(backbone, side="right"):
    """Ids, mask and types of pairs of texts, padded."""
    rows = [backbone.tokenizer(*pair) for pair in PAIRS]
    width = max(len(row["input_ids"]) for row in rows) + 2
    out = []
    for name, fill in (("input_ids", backbone.tokenizer.pad_token_id), ("attention_mask", 0), ("token_type_ids", 0)):
        parts = [row.get(name, [0] * len(row["input_ids"])) for row in rows]
        blanks = [[fill] * (width - len(part)) for part in parts]
        whole = [p + b if side == "right" else b + p for p, b in zip(parts, blanks, strict=True)]
        out.append(torch.tensor(whole))
    return out


def input_prompt(backbone, seed, *, layers=()):
    vectors = numbers(len(ANCHORS), backbone.embedding_size, seed=seed)
    deltas = {layer: numbers(len(ANCHORS), backbone.hidden_size, seed=seed + 1 + layer) for layer in layers}
    return InputPrompt(vectors, ANCHORS, deltas)


def placed(backbone, ids):
    """Where the row's tokens, and where the prompt's vectors stand, found by going through the row."""
    first_separator = ids.tolist().index(backbone.tokenizer.sep_token_id)
    order = []
    for place in range(len(ids) + 1):
        wanted = []
        if place == 0:
            wanted.append(Anchor.FRONT)
        if place == 1:
            wanted.append(Anchor.AFTER_FIRST)
        if place == first_separator + 1:
            wanted.append(Anchor.BETWEEN)
        if place == len(ids) - 1:
            wanted.append(Anchor.BEFORE_LAST)
        if place == len(ids):
            wanted.append(Anchor.END)
        order += [("prompt", n) for n, anchor in enumerate(ANCHORS) if anchor in wanted]
        order += [("text", place)] if place < len(ids) else []
    return order


def by_hand(order, text, prompt):
    """Text and prompt rows put together in this order."""
    return torch.stack([text[n] if kind == "text" else prompt[n] for kind, n in order])


def text_places(order):
    return [place for place, (kind, _) in enumerate(order) if kind == "text"]


@EVERY_CASE
@SIDES
def test_input_prompts_with_deltas_and_a_prefix(case, side):
    backbone = case.backbone()
    ids, mask, types = pairs_of(backbone, side)
    last = case.layers - 1
    prompts = [
        Prompt(prefix(3, (1, last), seed=7), input_prompt(backbone, 20, layers=(0, last))),
        Prompt(prefix(2, (0, last), seed=8), input_prompt(backbone, 30, layers=(1,))),
    ]
    reference = ROWS_OF[case.family](backbone.name)
    expected = []
    for row, number in enumerate((1, 0)):
        prompt, real = prompts[number], mask[row].bool()
        order = placed(backbone, ids[row][real])
        embedded = by_hand(order, reference.weights[reference.words][ids[row][real]], prompt.inputs.vectors)
        segments = by_hand(order, types[row][real], torch.zeros(len(ANCHORS), dtype=torch.long))
        nothing = torch.zeros(int(real.sum()), backbone.hidden_size, dtype=torch.float64)
        deltas = {layer: by_hand(order, nothing, delta) for layer, delta in prompt.inputs.deltas.items()}
        expected.append(reference.row(embedded, segments, prompt.prefix, deltas)[text_places(order)])
    found = rows_of(backbone(ids, mask, types, Injection(prompts, torch.tensor([1, 0]))), mask)
    agree(found, expected, tensors(prompts), tolerance(case))


@EVERY_CASE
def test_an_input_prompt_is_embeddings_of_the_plain_model(case):
    backbone = case.backbone(torch.float32)
    plain = AutoModel.from_pretrained(backbone.name, attn_implementation="eager").eval()
    ids, mask, types = pairs_of(backbone)
    inputs = input_prompt(backbone, 20)
    inputs = InputPrompt(inputs.vectors.detach().float(), inputs.anchors)
    found = rows_of(backbone(ids, mask, types, Injection([Prompt(inputs=inputs)])), mask)
    for row, ours in enumerate(found):
        real = mask[row].bool()
        order = placed(backbone, ids[row][real])
        embedded = by_hand(order, plain.get_input_embeddings()(ids[row][real]), inputs.vectors)
        segments = by_hand(order, types[row][real], torch.zeros(len(ANCHORS), dtype=torch.long))
        ones = torch.ones(1, len(order), dtype=torch.long)
        theirs = plain(inputs_embeds=embedded[None], attention_mask=ones, token_type_ids=segments[None])
        same([ours], [theirs.last_hidden_state[0, text_places(order)]], 1e-4)


@EVERY_CASE
def test_shifted_positions(case):
    backbone = case.backbone()
    inputs = padded(backbone)
    prompts = [Prompt(prefix(length, (0,), seed=length), shift_positions=bool(length % 2)) for length in (3, 2, 5)]
    reference = ROWS_OF[case.family](backbone.name)
    expected = [
        reference.row(*row, prompts[n].prefix, shift=prompts[n].length if prompts[n].shift_positions else 0)
        for row, n in zip(bare_rows(reference, inputs), ROWS, strict=True)
    ]
    found = rows_of(backbone(*inputs, Injection(prompts, torch.tensor(ROWS))), inputs[1])
    same(found, expected, tolerance(case))


@EVERY_CASE
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputed_activations_change_nothing(case, dropout):
    results = []
    for recomputes in (False, True):
        backbone = case.backbone(torch.float32)
        backbone.regularize(hidden=dropout, attention=dropout)
        backbone.gradient_checkpointing(recomputes)
        backbone.train()
        prompts = [
            Prompt(prefix(2, range(case.layers), seed=1, gated=True), input_prompt(backbone, 20, layers=(0, 2))),
            Prompt(prefix(3, range(1, case.layers), seed=2), input_prompt(backbone, 30, layers=(1,))),
        ]
        torch.manual_seed(3)
        ids, mask, types = pairs_of(backbone)
        hidden = backbone(ids, mask, types, Injection(prompts, torch.tensor([1, 0])))
        results.append([hidden, *torch.autograd.grad((hidden[mask.bool()] ** 3).sum(), tensors(prompts))])
    for kept, recomputed in zip(*results, strict=True):
        assert torch.equal(kept, recomputed)


HEADS = [(name, {}) for name, family in FAMILIES.items() if family.kind == "encoder" and family.project is not None]
HEADS += [("deberta", {"legacy": False}), ("deberta-v2", {"legacy": False})]


@pytest.mark.parametrize(("name", "changes"), [pytest.param(*head, id="-".join([head[0], *head[1]])) for head in HEADS])
def test_the_vocabulary_head(name, changes):
    backbone = tiny_backbone(name, language_model=True, **changes)
    family, ids, mask = FAMILIES[name], *padded(backbone)[:2]
    read = family.transform(backbone.model, backbone(ids, mask))
    assert read.shape[-1] == backbone.embedding_size
    plain = AutoModelForMaskedLM.from_pretrained(backbone.name, attn_implementation="eager").eval()
    expected = plain(input_ids=ids, attention_mask=mask).logits
    assert expected.std() > 0.1
    same(rows_of(family.project(backbone.model, read), mask), rows_of(expected, mask), 1e-4)


def test_no_pooler_is_loaded(encoder_family):
    backbone = tiny_backbone(encoder_family)
    assert not [name for name, _ in backbone.model.named_parameters() if "pooler" in name]


def test_shared_layers_have_sites_of_their_own():
    backbone = CASES["albert-groups"].backbone()
    assert list(backbone.sites) == [Site("encoder", layer) for layer in range(10)]
    turns = sorted(len(sites) for sites in backbone._sites.of.values())
    assert turns == [2, 2, 3, 3]
    assert backbone.embedding_size == 16
    assert backbone.hidden_size == 32


def test_a_prefix_is_seen_from_everywhere_in_a_local_window():
    backbone = tiny_backbone("modernbert")
    ids, mask, types = padded(backbone, [" ".join(TEXTS)])
    assert ids.shape[1] > 30
    value = numbers(4, 1, 8, seed=1).detach().float()
    shared = [Prompt({Site("encoder", 1): KeyValue(torch.zeros_like(value), value * sign)}) for sign in (1, -1)]
    one, other = (backbone(ids, mask, types, Injection([prompt])) for prompt in shared)
    assert ((one - other).abs().amax(-1) > 1e-3).all()


def test_talking_heads_are_refused(tmp_path):
    folder = tiny_backbone_folder("deberta", tmp_path, talking_head=True)
    with pytest.raises(BackboneError, match="talking_head"):
        load_backbone(str(folder))


def test_types_change_nothing_in_families_without():
    for name in ("distilbert", "modernbert", "mpnet", "deberta-v2"):
        backbone = tiny_backbone(name)
        ids, mask, _ = padded(backbone)
        assert torch.equal(backbone(ids, mask, torch.ones_like(ids)), backbone(ids, mask)), name


@pytest.mark.parametrize("kind", ["plain", "own"])
def test_a_tokenizer_of_deberta_v2_gives_offsets(kind, tmp_path):
    folder = tiny_backbone_folder("deberta-v2", tmp_path)
    if kind == "own":
        pieces = tiny_sentencepiece_tokenizer().get_vocab()
        ordered = sorted(pieces, key=pieces.get)
        DebertaV2Tokenizer(vocab=[(piece, -float(number)) for number, piece in enumerate(ordered)]).save_pretrained(
            folder
        )
    tokenizer = load_backbone(str(folder)).tokenizer
    encoded = tokenizer("Anna visited London.", "It", return_offsets_mapping=True)
    text = "Anna visited London."
    words = [text[start:end].strip() for start, end in encoded["offset_mapping"][1:4]]
    assert words == ["Anna", "visited", "London"]
    assert encoded.sequence_ids()[1:4] == [0, 0, 0]


@pytest.mark.parametrize("name", ROWS_OF)
def test_a_compiled_backbone_computes_the_same(name):
    backbone = tiny_backbone(name)
    inputs = padded(backbone)
    prompts = [Prompt(prefix(3, range(3), seed=1)).map(lambda t: t.detach().float().requires_grad_())]
    graphs = []

    def compiler(graph, examples):
        graphs.append(graph)
        return aot_eager(graph, examples)

    torch._dynamo.reset()
    results = []
    for run in (backbone, torch.compile(backbone, backend=compiler)):
        hidden = run(*inputs, Injection(prompts))
        results.append([hidden, *torch.autograd.grad((hidden[inputs[1].bool()] ** 2).sum(), leaves(prompts))])
    same(results[1], results[0], 1e-4)
    # Which side the padding is on is asked before anything runs; from there on all is one graph.
    assert len(graphs) == 2
