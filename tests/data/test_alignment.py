import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.data.alignment import chars_to_tokens, first_tokens, tokens_to_chars, trimmed
from foreword.data.examples import Span
from foreword.data.spans import word_spans
from tiny import tiny_bert_tokenizer, tiny_roberta_tokenizer, tiny_sentencepiece_tokenizer

TOKENIZERS = [
    pytest.param(tiny_bert_tokenizer, id="wordpiece"),
    pytest.param(tiny_roberta_tokenizer, id="byte-bpe"),
    pytest.param(tiny_sentencepiece_tokenizer, id="sentencepiece"),
]

# Every piece holds letters or symbols that both tokenizers keep, so that no word may get lost.
PIECES = [
    "Anna",
    "the",
    "movie",
    "didn't",
    "York-based",
    "cafe\u0301",
    "na\u00efve",
    "x\u0323\u0301y",
    "\u0915\u094d\u0937\u093f",
    "\u5317\u4eac",
    "\u3053\u308c\u3002",
    "\U0001f469\u200d\U0001f4bb",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001f44d\U0001f3fd",
    "\U0001f1eb\U0001f1f7\U0001f1e9\U0001f1ea",
    "2",
    "...",
    "\ufb01nd",
]
SPACES = ["", " ", "  ", "\n", "\u00a0", "\u3000"]


@st.composite
def texts(draw):
    """Text made of hard pieces, with any white space, or none, between and around them."""
    parts = draw(st.lists(st.tuples(st.sampled_from(SPACES), st.sampled_from(PIECES)), min_size=1, max_size=8))
    return "".join(space + piece for space, piece in parts) + draw(st.sampled_from(SPACES))


def encode(build, question, text):
    """Offsets of a pair, and the mask of its second text."""
    encoding = build()(question, text, return_offsets_mapping=True)
    return encoding["offset_mapping"], [part == 1 for part in encoding.sequence_ids()]


def overlapping(start, end, offsets, mask):
    """All sub-tokens that share a character with the stretch, by trying every one."""
    return [
        index
        for index, ((left, right), ours) in enumerate(zip(offsets, mask, strict=True))
        if ours and set(range(left, right)) & set(range(start, end))
    ]


@pytest.mark.parametrize("build", TOKENIZERS)
@given(question=texts(), text=texts())
def test_every_word_has_its_first_token(build, question, text):
    offsets, mask = encode(build, question, text)
    words = word_spans(text)
    firsts = first_tokens(words, offsets, mask)
    assert firsts == [overlapping(*word, offsets, mask)[0] for word in words]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("build", TOKENIZERS)
@given(question=texts(), text=texts() | st.text(max_size=20))
def test_first_tokens_agree_with_trying_every_token(build, question, text):
    offsets, mask = encode(build, question, text)
    expected = [next(iter(overlapping(*word, offsets, mask)), None) for word in word_spans(text)]
    assert first_tokens(word_spans(text), offsets, mask) == expected


@pytest.mark.parametrize("build", TOKENIZERS)
@given(question=texts(), text=texts(), data=st.data())
def test_characters_come_back_from_their_tokens(build, question, text, data):
    offsets, mask = encode(build, question, text)
    words = word_spans(text)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    start, end = words[first].start, words[last].end
    tokens = overlapping(start, end, offsets, mask)
    # An accent that ends the text may belong to no sub-token; then the stretch is not inside them.
    reach = max(right for (_, right), ours in zip(offsets, mask, strict=True) if ours)
    found = chars_to_tokens(start, end, offsets, mask)
    if end > reach:
        assert found is None
    else:
        assert found == (tokens[0], tokens[-1])
        left, right = tokens_to_chars(*found, offsets)
        kept = [at for token in tokens for at in range(*offsets[token]) if start <= at < end]
        assert left <= min(kept)
        assert max(kept) < right


@pytest.mark.parametrize("build", TOKENIZERS)
def test_plain_words_come_back_exactly(build):
    text = "Anna  visited the good movie."
    offsets, mask = encode(build, "who?", text)
    offsets = trimmed(offsets, mask, text)
    for start, end in word_spans(text):
        first, last = chars_to_tokens(start, end, offsets, mask)
        assert tokens_to_chars(first, last, offsets) == Span(start, end)


def test_white_space_is_trimmed_from_the_text_alone():
    text = "a  bc \n d"
    offsets = [(0, 0), (0, 3), (0, 3), (3, 6), (6, 8), (7, 9), (0, 0)]
    mask = [False, False, True, True, True, True, False]
    found = trimmed(offsets, mask, text)
    assert found[:2] == offsets[:2]
    assert found[6] == (0, 0)
    assert [text[start:end] for start, end in found[2:6]] == ["a", "bc", "", "d"]
    with pytest.raises(ValueError, match="shorter"):
        trimmed(offsets, mask[1:], text)


@pytest.mark.parametrize("build", TOKENIZERS)
@given(text=texts(), start=st.integers(0, 10), data=st.data())
def test_a_window_has_only_the_characters_inside_it(build, text, start, data):
    offsets, mask = encode(build, "who?", text)
    ours = [index for index, mine in enumerate(mask) if mine and offsets[index][0] < offsets[index][1]]
    low = data.draw(st.integers(0, len(ours) - 1))
    high = data.draw(st.integers(low, len(ours) - 1))
    window = [index in ours[low : high + 1] for index in range(len(mask))]
    left, right = offsets[ours[low]][0], offsets[ours[high]][1]
    end = start + data.draw(st.integers(1, 5))
    tokens = overlapping(start, end, offsets, window)
    expected = (tokens[0], tokens[-1]) if tokens and left <= start and end <= right else None
    assert chars_to_tokens(start, end, offsets, window) == expected


OFFSETS = [(0, 0), (0, 3), (0, 0), (0, 4), (4, 7), (9, 10), (9, 10), (10, 12), (0, 0)]
MASK = [False, False, False, True, True, True, True, True, False]


def test_first_tokens_by_hand():
    words = [Span(0, 2), Span(2, 4), Span(4, 7), Span(7, 8), Span(9, 12), Span(12, 14)]
    assert first_tokens(words, OFFSETS, MASK) == [3, 3, 4, None, 5, None]
    assert first_tokens([Span(0, 2)], OFFSETS, [False] * 9) == [None]
    assert first_tokens([], OFFSETS, MASK) == []


@pytest.mark.parametrize(
    ("start", "end", "tokens"),
    [
        (0, 4, (3, 3)),
        (1, 6, (3, 4)),
        (9, 10, (5, 6)),
        (6, 9, (4, 4)),
        (7, 9, None),
        (10, 13, None),
        (0, 12, (3, 7)),
    ],
)
def test_chars_to_tokens_by_hand(start, end, tokens):
    assert chars_to_tokens(start, end, OFFSETS, MASK) == tokens


def test_characters_before_the_window_are_not_in_it():
    window = [index in (4, 5) for index in range(9)]
    assert chars_to_tokens(3, 6, OFFSETS, window) is None
    assert chars_to_tokens(4, 6, OFFSETS, window) == (4, 4)
    assert chars_to_tokens(4, 6, OFFSETS, [False] * 9) is None


def test_sub_tokens_without_characters_are_passed_over():
    offsets = [(2, 2), (0, 4), (5, 5), (5, 8), (0, 0)]
    assert first_tokens([Span(0, 4), Span(5, 8)], offsets, [True] * 5) == [1, 3]
    assert chars_to_tokens(0, 8, offsets, [True] * 5) == (1, 3)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="stretch"):
        chars_to_tokens(3, 3, OFFSETS, MASK)
    with pytest.raises(ValueError, match="stretch"):
        chars_to_tokens(-1, 3, OFFSETS, MASK)
    with pytest.raises(ValueError, match="shorter"):
        first_tokens([Span(0, 1)], OFFSETS, MASK[:-1])
    for first, last in ((2, 1), (-1, 1), (0, 9)):
        with pytest.raises(ValueError, match="among 9"):
            tokens_to_chars(first, last, OFFSETS)


def test_pairs_have_the_token_types_of_their_family():
    bert = tiny_bert_tokenizer()("it", "the movie")
    assert bert["token_type_ids"] == [int(part == 1) for part in bert.sequence_ids()[:-1]] + [1]
    assert "token_type_ids" not in tiny_roberta_tokenizer()("it", "the movie")
