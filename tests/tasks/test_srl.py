from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.batching import IGNORED, collate
from foreword.data.examples import Entity
from foreword.data.records import Record
from foreword.data.spans import entities_to_tags
from foreword.errors import DataError
from foreword.heads import MarkedTokenHead, TokenHead
from foreword.tasks import SRL
from perfect import perfect_tag_logits
from tiny import (
    tiny_backbone,
    tiny_bert_tokenizer,
    tiny_gpt2_tokenizer,
    tiny_roberta_tokenizer,
    tiny_sentencepiece_tokenizer,
)

TOKENIZERS = pytest.mark.parametrize(
    "tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer, tiny_gpt2_tokenizer]
)
MARKS = pytest.mark.parametrize("mark", ["appended", "indicator", "both"])
LABELS = ("ARG0", "ARG1", "C-ARG1", "V")
WORDS = ["Anna", "visited", "London", ".", "didn't", "York-based", "x", "Germany", "zqxj", "recommend"]


@st.composite
def propositions(draw):
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40))
    roles, at = [], 0
    while at < len(words):
        length = draw(st.integers(0, 3))
        if length:
            roles.append(Entity(at, min(at + length, len(words)), draw(st.sampled_from(LABELS))))
        at += max(length, 1)
    predicate = draw(st.sets(st.integers(0, len(words) - 1), min_size=1, max_size=2))
    return words, tuple(roles), tuple(sorted(predicate))


def example_of(words, roles, predicate, task=None):
    fields = {"tokens": words, "tags": entities_to_tags(roles, len(words), "IOB2"), "predicate": list(predicate)}
    (example,) = (task or SRL(scheme="IOB2")).read([Record(fields, "data.props", 3)], labelled=True)
    assert example.entities == tuple(roles)
    assert example.predicate == predicate
    return example


def spelled(tokenizer, ids):
    return tokenizer.decode(ids).replace(" ", "").replace("##", "").lower()


@TOKENIZERS
@MARKS
@given(case=propositions(), max_length=st.integers(28, 48))
def test_windows_lose_no_word_and_always_tell_the_predicate(tokenizer, mark, case, max_length):
    words, roles, predicate = case
    task, tokenizer = SRL(labels=LABELS, mark=mark), tokenizer()
    example = example_of(words, roles, predicate)
    encoding = task.encode(example, tokenizer, max_length)
    assert [word for row in encoding.rows for word, _ in row.words] == list(range(len(words)))
    wanted = "".join(words[i] for i in predicate).lower()
    for row in encoding.rows:
        assert len(row) <= max_length
        counted = [token for token, tag in enumerate(row.targets["tags"]) if tag != IGNORED]
        assert counted == [token for _, token in row.words]
        if mark == "appended":
            assert not any(row.marks)
            assert spelled(tokenizer, row.input_ids).removesuffix("[sep]").removesuffix("</s>").endswith(wanted)
        else:
            marked = [id_ for id_, marked in zip(row.input_ids, row.marks, strict=True) if marked]
            assert spelled(tokenizer, marked) == wanted
            here = {word for word, _ in row.words}
            firsts = {row.marks[token] for word, token in row.words if word in predicate}
            assert firsts == ({1} if set(predicate) <= here else {0} if here & set(predicate) else set())

    generator = torch.Generator().manual_seed(0)
    prediction = task.decode(
        example, encoding.rows, [perfect_tag_logits(row, len(task.tags), generator) for row in encoding.rows]
    )
    assert prediction.entities == roles
    assert all(probability > 0.999 for probability in prediction.probabilities)


@TOKENIZERS
def test_the_predicate_stands_behind_the_tokenizers_own_separator(tokenizer):
    tokenizer = tokenizer()
    example = example_of(["Anna", "visited", "London"], [], (1,))
    (row,) = SRL(labels=LABELS, mark="appended").encode(example, tokenizer, 64).rows
    pair = tokenizer("Anna visited London", " visited")
    assert row.input_ids == pair["input_ids"]
    assert row.token_type_ids == pair.get("token_type_ids")


def test_an_indicator_in_its_place_and_in_a_window_without_it():
    words = ["Anna", "visited", "London", "and", *["x"] * 20]
    example, tokenizer = example_of(words, [], (1,)), tiny_bert_tokenizer()
    first, *others = SRL(labels=LABELS, mark="indicator").encode(example, tokenizer, 16).rows
    assert tokenizer.convert_ids_to_tokens(first.input_ids)[-1] == "[SEP]"
    assert first.input_ids.count(tokenizer.sep_token_id) == 1
    assert [i for i, mark in enumerate(first.marks) if mark] == [2]
    assert first.token_type_ids == list(first.marks)
    assert others
    for row in others:
        visited = tokenizer.convert_tokens_to_ids("visited")
        assert row.input_ids[-2:] == [visited, tokenizer.sep_token_id]
        assert [i for i, mark in enumerate(row.marks) if mark] == [len(row) - 2]
        assert row.token_type_ids == [0] * (len(row) - 2) + [1, 1]


def test_families_without_segments_get_none():
    example = example_of(["Anna", "visited", "London"], [], (1,))
    for mark in ("appended", "indicator", "both"):
        (row,) = SRL(labels=LABELS, mark=mark).encode(example, tiny_roberta_tokenizer(), 64).rows
        assert row.token_type_ids is None


@MARKS
def test_the_same_sentence_with_another_predicate_is_another_row(mark):
    backbone = tiny_backbone()
    task = SRL(labels=LABELS, mark=mark, dropout=0)
    torch.manual_seed(0)
    head = task.build_head(backbone.hidden_size, backbone)
    assert isinstance(head, TokenHead if mark == "appended" else MarkedTokenHead)
    examples = [example_of(["Anna", "visited", "and", "liked", "London"], [], (i,)) for i in (1, 3)]
    rows = [task.encode(example, backbone.tokenizer, 64).rows[0] for example in examples]
    logits = []
    for index in range(2):
        batch = collate(rows, [index], 0)
        hidden = backbone(batch.input_ids, batch.attention_mask, batch.token_type_ids, every_layer=True)
        logits.append(head(hidden, batch.attention_mask, batch.marks)[0, rows[index].words[0][1]])
    assert not torch.allclose(*logits)


def test_a_predicate_that_leaves_no_room():
    example = example_of(["visited " * 9], [], (0,))
    with pytest.raises(DataError, match=r"proposition 0: its predicate visited .* leaves no room .*max_length"):
        SRL(labels=LABELS, mark="both").encode(example, tiny_bert_tokenizer(), 12)


def test_a_predicate_that_the_tokenizer_drops():
    example = example_of(["Anna", "\u200b"], [], (1,))
    for mark in ("appended", "indicator", "both"):
        (row,) = SRL(labels=LABELS, mark=mark).encode(example, tiny_bert_tokenizer(), 64).rows
        assert [word for word, _ in row.words] == [0]
        assert not any(row.marks)


class TestDecoding:
    def decoded(self, decoding):
        task = SRL(labels=LABELS, decoding=decoding)
        example = example_of(["Anna", "left", "home"], [], (1,))
        (row,) = task.encode(example, tiny_bert_tokenizer(), 64).rows
        logits = torch.full((len(row), len(task.tags)), -9.0)
        for word, tags in enumerate(({"I-ARG0": 1.0, "B-ARG1": 0.5}, {"I-ARG1": 1.0}, {"O": 1.0})):
            for tag, score in tags.items():
                logits[row.words[word][1], task.tags.index(tag)] = score
        return task.decode(example, [row], [logits])

    def test_greedy_repairs_as_conlleval_does(self):
        assert self.decoded("greedy").entities == (Entity(0, 1, "ARG0"), Entity(1, 2, "ARG1"))

    def test_constrained_looks_for_the_best_that_is_valid(self):
        assert self.decoded("constrained").entities == (Entity(0, 2, "ARG1"),)
        assert SRL().decoding == "transitions"

    def test_a_role_is_as_probable_as_its_tags_are(self):
        (probability,) = self.decoded("constrained").probabilities
        one, other = 1 / (1 + torch.e**0.5), 1.0
        assert probability == pytest.approx((one + other) / 2, abs=1e-3)


def test_answers():
    task = SRL(labels=LABELS)
    example = example_of(["Anna", "looked", "it", "up"], [], (1, 3))
    (row,) = task.encode(example, tiny_bert_tokenizer(), 64).rows
    logits = torch.zeros(len(row), len(task.tags))
    for (_, token), tag in zip(row.words, ["B-ARG0", "B-V", "B-ARG1", "B-C-ARG1"], strict=True):
        logits[token, task.tags.index(tag)] = 30
    prediction = task.decode(example, [row], [logits])
    assert task.to_json(example, prediction) == {
        "id": "0",
        "text": "Anna looked it up",
        "predicate": [{"start": 5, "end": 11, "text": "looked"}, {"start": 15, "end": 17, "text": "up"}],
        "roles": [
            {"role": "ARG0", "start": 0, "end": 4, "text": "Anna", "probability": 1.0},
            {"role": "ARG1", "start": 12, "end": 14, "text": "it", "probability": 1.0},
            {"role": "C-ARG1", "start": 15, "end": 17, "text": "up", "probability": 1.0},
        ],
    }
    assert task.answer_key(prediction) == "ARG0 V ARG1 C-ARG1"


def test_the_score_is_that_of_whole_arguments():
    gold = example_of(["a", "b", "c"], [Entity(0, 1, "ARG1"), Entity(1, 2, "V"), Entity(2, 3, "C-ARG1")], (1,))
    task = SRL(labels=LABELS)
    (row,) = task.encode(gold, tiny_bert_tokenizer(), 64).rows
    right = task.decode(gold, [row], [perfect_tag_logits(row, len(task.tags), torch.Generator().manual_seed(0))])
    assert task.score([gold], [right]).main_value == 1
    assert task.score([gold], [right]).counts["gold"] == 1


@pytest.mark.parametrize("setting", [{"head_width": 64}, {"between": False}])
def test_what_has_no_meaning_without_its_head(setting):
    with pytest.raises(ValueError, match="has no meaning with mark = 'appended'"):
        SRL(mark="appended", **setting)


def test_settings_of_the_head():
    assert SRL(mark="both", head_width=64, layers="last").build_head(8).token.out_features == 64
    assert SRL(layers="last").build_head(8).between.out_features == 32
    assert SRL(between=False, layers="last").build_head(8).between is None


class TestMistakes:
    def read(self, **fields):
        fields = {"tokens": ["a", "b"], "tags": ["O", "B-V"], "predicate": 1} | fields
        fields = {name: value for name, value in fields.items() if value is not ...}
        return SRL().read([Record(fields, "data.jsonl", 4)], labelled=True)

    @pytest.mark.parametrize("predicate", [2, -1, "1", 1.0, True, None, [], [0, 2], [[0]]])
    def test_predicates(self, predicate):
        with pytest.raises(DataError, match=r"data\.jsonl:4: field 'predicate': expected the number of a word from 0"):
            self.read(predicate=predicate)

    def test_without_a_predicate(self):
        with pytest.raises(DataError, match=r"data\.jsonl:4: field 'predicate': missing"):
            self.read(predicate=...)

    def test_tags(self):
        with pytest.raises(DataError, match=r"field 'tags': expected a list of 2 tags"):
            self.read(tags=["O"])
        with pytest.raises(DataError, match=r"field 'tags': .*'I-A0'.*'repair'"):
            self.read(tags=["I-A0", "B-V"])

    def test_several_words_in_any_order(self):
        (example,) = self.read(predicate=[1, 0, 1])
        assert example.predicate == (0, 1)

    def test_roles_that_training_never_saw(self):
        task = SRL(labels=("ARG0", "R-ARG1", "V"))

        def check(role):
            record = Record({"tokens": ["a"], "tags": [f"B-{role}"], "predicate": 0}, "dev.props", 9)
            task.check_labels([record], task.read([record], labelled=True))

        for role in ("ARG0", "C-ARG0", "R-ARG0", "C-R-ARG0", "C-V", "ARG1"):
            check(role)  # rare pieces and references of known roles count as missed
        for role in ("ARG2", "A4", "AM-PRR", "ARGM-LVB", "C-ARGM-PRR", "ARG1-DSP"):
            check(role)  # and so do rare roles of PropBank
        for role in ("Agent", "ARG9", "ARG", "C-Agent"):
            with pytest.raises(DataError, match=rf"dev\.props:9: .*role '{role}' does not occur.*Known roles: ARG0, R"):
                check(role)

    def test_a_piece_that_training_never_saw_has_no_target(self):
        example = example_of(["a", "b"], [Entity(0, 1, "R-ARG0"), Entity(1, 2, "V")], (1,))
        (row,) = SRL(labels=("ARG0", "V")).encode(example, tiny_bert_tokenizer(), 64).rows
        targets = [row.targets["tags"][token] for _, token in row.words]
        assert targets == [IGNORED, SRL(labels=("ARG0", "V")).tags.index("B-V")]
