from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.batching import IGNORED
from foreword.data.examples import Entity
from foreword.data.records import Record
from foreword.data.spans import entities_to_tags, repair_entities
from foreword.errors import DataError
from foreword.tasks import NER
from perfect import perfect_tag_logits
from tiny import tiny_bert_tokenizer, tiny_roberta_tokenizer

TOKENIZERS = pytest.mark.parametrize("tokenizer", [tiny_bert_tokenizer, tiny_roberta_tokenizer])
TASK = NER(labels=("LOC", "PER"))
# The last one alone has more tokens than the smaller windows below.
WORDS = [
    "Anna",
    "visited",
    "London",
    ".",
    "didn't",
    "York-based",
    "x",
    "Germany",
    "zqxj",
    "Honorificabilitudinitatibus",
]


@st.composite
def sentences(draw):
    """Words with random entities, neighbours of the same type among them."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=40))
    entities, at = [], 0
    while at < len(words):
        length = draw(st.integers(0, 3))
        if length:
            end = min(at + length, len(words))
            entities.append(Entity(at, end, draw(st.sampled_from(["LOC", "PER"]))))
        at += max(length, 1)
    return words, tuple(entities)


def example_of(words, entities):
    tags = entities_to_tags(entities, len(words), "IOB2")
    record = Record({"tokens": words, "tags": tags}, "data.conll", 3)
    (example,) = NER(scheme="IOB2").read([record], labelled=True)
    assert example.entities == entities
    return example


@TOKENIZERS
@given(sentence=sentences(), max_length=st.integers(4, 24))
def test_windows_lose_no_word_and_decode_gives_the_gold_entities_back(tokenizer, sentence, max_length):
    words, entities = sentence
    example, generator = example_of(words, entities), torch.Generator().manual_seed(0)
    encoding = TASK.encode(example, tokenizer(), max_length)
    assert all(len(row) <= max_length for row in encoding.rows)
    assert [word for row in encoding.rows for word, _ in row.words] == list(range(len(words)))
    assert encoding.note == ("split into windows" if len(encoding.rows) > 1 else None)

    prediction = TASK.decode(
        example, encoding.rows, [perfect_tag_logits(row, len(TASK.tags), generator) for row in encoding.rows]
    )
    assert prediction.entities == entities
    assert all(probability > 0.999 for probability in prediction.probabilities)
    for entity, found in zip(entities, TASK.to_json(example, prediction)["entities"], strict=True):
        assert found["text"] == " ".join(words[entity.start : entity.end])
        assert example.text[found["start"] : found["end"]] == found["text"]
        assert found["type"] == entity.type


@TOKENIZERS
@given(sentence=sentences(), max_length=st.integers(4, 24))
def test_targets_stand_on_first_sub_tokens(tokenizer, sentence, max_length):
    words, entities = sentence
    tags = entities_to_tags(entities, len(words), "IOB2")
    for row in TASK.encode(example_of(words, entities), tokenizer(), max_length).rows:
        pieces = tokenizer().convert_ids_to_tokens(row.input_ids)
        starts = {token: word for word, token in row.words}
        for token, target in enumerate(row.targets["tags"]):
            assert (target != IGNORED) == (token in starts)
            if token in starts:
                assert TASK.tags[target] == tags[starts[token]]
        ends = [token for _, token in row.words[1:]] + [len(pieces) - 1]
        for (word, start), end in zip(row.words, ends, strict=True):
            spelled = "".join(pieces[start:end]).replace("##", "").replace("\u0120", "")
            wanted = words[word].lower() if tokenizer is tiny_bert_tokenizer else words[word]
            cut_off = len(row.words) == 1 or word == row.words[-1][0]
            assert wanted.startswith(spelled) or (cut_off and spelled.startswith(wanted))
            assert spelled


@TOKENIZERS
@given(
    words=st.lists(st.sampled_from([*WORDS, "\u5317\u4eac", "\U0001f44d"]), min_size=1), max_length=st.integers(4, 24)
)
def test_a_word_is_cut_only_where_it_is_alone(tokenizer, words, max_length):
    example = example_of(words, ())
    for row in TASK.encode(example, tokenizer(), max_length).rows:
        base, last = example.words[row.words[0][0]].start, example.words[row.words[-1][0]]
        whole = tokenizer()(example.text[base:], return_offsets_mapping=True)["offset_mapping"]
        needed = max(i for i, (start, end) in enumerate(whole) if start < end and base + start < last.end)
        assert needed < len(row) - 1 or len(row.words) == 1


@TOKENIZERS
def test_words_without_spaces_between_them_in_a_plain_text(tokenizer):
    text = "Anna visited London."
    (example,) = TASK.read([Record({"text": text}, "f", 1)], labelled=False)
    assert [text[a:b] for a, b in example.words] == ["Anna", "visited", "London", "."]
    (row,) = TASK.encode(example, tokenizer(), 128).rows
    assert row.targets == {}
    logits = torch.zeros(len(row), len(TASK.tags))
    logits[row.words[2][1], TASK.tags.index("B-LOC")] = 9
    assert TASK.to_json(example, TASK.decode(example, [row], [logits]))["entities"] == [
        {"type": "LOC", "start": 13, "end": 19, "text": "London", "probability": pytest.approx(0.9995, abs=1e-3)}
    ]


def test_a_word_that_the_tokenizer_drops_is_noted_and_outside():
    example = example_of(["Anna", "\u200b", "London"], (Entity(1, 2, "LOC"), Entity(2, 3, "LOC")))
    encoding = TASK.encode(example, tiny_bert_tokenizer(), 128)
    assert encoding.note == "with words the tokenizer drops"
    (row,) = encoding.rows
    assert [word for word, _ in row.words] == [0, 2]
    logits = perfect_tag_logits(row, len(TASK.tags), torch.Generator().manual_seed(0))
    assert TASK.decode(example, [row], [logits]).entities == (Entity(2, 3, "LOC"),)


@TOKENIZERS
def test_a_sentence_that_fits_is_read_in_one_row_as_the_tokenizer_gives_it(tokenizer):
    words = ["Anna", "visited", "London", "."]
    (row,) = TASK.encode(example_of(words, ()), tokenizer(), 128).rows
    assert row.input_ids == tokenizer()("Anna visited London .")["input_ids"]


def test_the_loss_is_the_mean_over_words():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    tags = [[IGNORED, 4, 0], [2, IGNORED, IGNORED]]
    by_hand = [
        -math.log(math.exp(logits[b, t, tags[b][t]]) / sum(math.exp(x) for x in logits[b, t]))
        for b, t in [(0, 1), (0, 2), (1, 0)]
    ]
    assert TASK.loss(logits, {"tags": torch.tensor(tags)}).item() == pytest.approx(sum(by_hand) / 3, rel=1e-5)


def test_a_batch_without_any_word_has_no_loss():
    logits = torch.randn(1, 3, 5, requires_grad=True)
    loss = TASK.loss(logits, {"tags": torch.full((1, 3), IGNORED)})
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_tags_that_no_scheme_allows_together_are_read_as_conlleval_does():
    task = NER(labels=("LOC", "PER"), decoding="greedy")
    example = example_of(["Anna", "Smith", "x"], ())
    (row,) = task.encode(example, tiny_bert_tokenizer(), 128).rows
    logits = torch.zeros(len(row), 5)
    for (_, token), tag in zip(row.words, ["I-PER", "I-PER", "I-LOC"], strict=True):
        logits[token, task.tags.index(tag)] = 9
    assert task.decode(example, [row], [logits]).entities == (Entity(0, 2, "PER"), Entity(2, 3, "LOC"))


def test_tags_that_no_scheme_allows_together_are_not_found_where_decoding_is_constrained():
    task = NER(labels=("LOC", "PER"), decoding="constrained")
    example = example_of(["Anna", "Smith", "x"], ())
    (row,) = task.encode(example, tiny_bert_tokenizer(), 128).rows
    logits = torch.zeros(len(row), 5)
    for (_, token), tag in zip(row.words, ["I-PER", "I-PER", "I-LOC"], strict=True):
        logits[token, task.tags.index(tag)] = 9
    logits[row.words[0][1], task.tags.index("B-PER")] = 1
    logits[row.words[2][1], task.tags.index("O")] = 1
    prediction = task.decode(example, [row], [logits])
    assert prediction.entities == (Entity(0, 2, "PER"),)
    shares = logits.softmax(-1)
    wanted = [shares[row.words[i][1], task.tags.index(tag)] for i, tag in enumerate(["B-PER", "I-PER"])]
    assert prediction.probabilities[0] == pytest.approx(float(sum(wanted)) / 2, abs=1e-5)


class TestTransitions:
    """Tags count by how they follow one another in the training data."""

    def training(self):
        tags = [["B-PER", "I-PER", "O"], ["B-PER", "I-PER", "O"], ["O", "B-LOC", "O"]]
        return [example_of([*"abc"], repair_entities(one)) for one in tags]

    def unsure(self, task):
        """A first name, and a word behind it that is as good as nothing or one more of the name."""
        example = example_of(["Anna", "Smith"], ())
        (row,) = task.encode(example, tiny_bert_tokenizer(), 128).rows
        logits = torch.zeros(len(row), 5)
        first, second = (token for _, token in row.words)
        logits[first, task.tags.index("B-PER")] = 9
        logits[second, task.tags.index("O")], logits[second, task.tags.index("I-PER")] = 4.0, 3.9
        return task.decode(example, [row], [logits]).entities

    def test_they_are_counted_with_the_labels(self):
        task = NER().with_labels_from(self.training())
        assert task.labels == ("LOC", "PER")
        assert task.transitions == {
            "": {"B-PER": 2, "O": 1},
            "B-LOC": {"O": 1},
            "B-PER": {"I-PER": 2},
            "I-PER": {"O": 2},
            "O": {"": 3, "B-LOC": 1},
        }
        assert NER(labels=("LOC", "PER")).with_labels_from(self.training()).transitions == task.transitions

    def test_they_decide_where_words_do_not(self):
        task = NER().with_labels_from(self.training())
        assert self.unsure(task) == (Entity(0, 2, "PER"),)  # no name here has one word
        for other in ({"decoding": "greedy"}, {"decoding": "constrained"}, {"transitions": None}):
            assert self.unsure(task.model_copy(update=other)) == (Entity(0, 1, "PER"),)

    @pytest.mark.parametrize("decoding", ["greedy", "constrained"])
    def test_they_are_not_counted_where_they_do_not_count(self, decoding):
        assert NER(decoding=decoding).with_labels_from(self.training()).transitions is None

    def test_those_that_are_given_stay(self):
        given = {"": {"O": 1}}
        assert NER(transitions=given).with_labels_from(self.training()).transitions == given


def test_an_entitys_probability_is_the_mean_over_its_words():
    example = example_of(["Anna", "Smith"], ())
    (row,) = TASK.encode(example, tiny_bert_tokenizer(), 128).rows
    logits = torch.full((len(row), 5), -math.inf)
    for (_, token), tag, sure in zip(row.words, ["B-PER", "I-PER"], [0.9, 0.5], strict=True):
        logits[token, 0] = math.log(1 - sure - 0.01)
        logits[token, 1] = math.log(0.01)
        logits[token, TASK.tags.index(tag)] = math.log(sure)
    (probability,) = TASK.decode(example, [row], [logits]).probabilities
    assert probability == pytest.approx(0.7)


def test_labels_are_found_and_the_tags_made_of_them():
    examples = [example_of(["a", "b"], (Entity(0, 1, "PER"), Entity(1, 2, "LOC"))), example_of(["c"], ())]
    task = NER().with_labels_from(examples)
    assert task.labels == ("LOC", "PER")
    assert task.tags == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    assert task.model_copy(update={"layers": "last"}).build_head(8).linear.out_features == 5


class TestMistakes:
    def read(self, fields, **settings):
        return NER(**settings).read([Record(fields, "data.jsonl", 4)], labelled=True)

    @pytest.mark.parametrize("tokens", [[], "Anna", ["a", ""], ["a", 1], None])
    def test_tokens(self, tokens):
        with pytest.raises(DataError, match=r"data\.jsonl:4: field 'tokens': expected a list of words"):
            self.read({"tokens": tokens, "tags": ["O"]})

    @pytest.mark.parametrize("tags", [["O"], ["O", 1], "OO"])
    def test_tags(self, tags):
        with pytest.raises(DataError, match="field 'tags': expected a list of 2 tags"):
            self.read({"tokens": ["a", "b"], "tags": tags})

    def test_a_tag_its_scheme_forbids(self):
        fields = {"tokens": ["a", "b"], "tags": ["O", "I-PER"]}
        with pytest.raises(DataError, match=r"'repair'"):
            self.read(fields, scheme="IOB2")
        (example,) = self.read(fields, scheme="IOB2", invalid_tags="repair")
        assert example.entities == (Entity(1, 2, "PER"),)

    def test_a_type_that_training_never_saw(self):
        record = Record({"tokens": ["a"], "tags": ["B-ORG"]}, "dev.conll", 9)
        examples = TASK.read([record], labelled=True)
        with pytest.raises(DataError, match=r"dev\.conll:9: .*'ORG' does not occur.*Known entity types: LOC, PER"):
            TASK.check_labels([record], examples)
