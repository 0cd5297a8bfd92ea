"""Alignment of characters, words and sub-tokens, as pure functions of a tokenizer's offsets.

``offsets`` holds one ``(start, end)`` of characters per sub-token, as fast tokenizers give them.
Several sub-tokens may have the same offsets (the bytes of one character), and an empty stretch, such as
the ``(0, 0)`` of special tokens, belongs to no character. ``mask[i]`` says whether sub-token ``i`` is of
the text in question (the context and not the question, say); its sub-tokens are in the text's order.
"""

from __future__ import annotations

from collections.abc import Sequence

from foreword.data.examples import Span


def first_tokens(words: Sequence[Span], offsets: Sequence[tuple[int, int]], mask: Sequence[bool]) -> list[int | None]:
    """Index of the first sub-token that overlaps each word; None where there is none.

    None means that the tokenizer dropped the word, or that truncation cut it off. Two words share
    an index where one sub-token reaches over both. Takes linear time.

    Args:
        words: character spans, not empty, in order and not overlapping.
        offsets: characters of each sub-token.
        mask: which sub-tokens are of the text.

    Raises:
        ValueError: ``offsets`` and ``mask`` differ in length.
    """
    tokens = _text_tokens(offsets, mask)
    firsts: list[int | None] = []
    at = 0
    for word in words:
        while at < len(tokens) and offsets[tokens[at]][1] <= word.start:
            at += 1
        found = at < len(tokens) and offsets[tokens[at]][0] < word.end
        firsts.append(tokens[at] if found else None)
    return firsts


def chars_to_tokens(
    start: int, end: int, offsets: Sequence[tuple[int, int]], mask: Sequence[bool]
) -> tuple[int, int] | None:
    """First and last sub-token, both inclusive, that overlap the characters ``[start, end)``.

    None where the stretch is not fully inside the text's sub-tokens, that is, begins before the first
    of them or ends after the last (the answer is not in this window), and where none of them overlaps
    it. Characters that the tokenizer drops further inside, such as spaces, do no harm.

    Raises:
        ValueError: the stretch is empty or reversed, or ``offsets`` and ``mask`` differ in length.
    """
    if not 0 <= start < end:
        raise ValueError(f"[{start}, {end}) is no stretch of characters")
    tokens = _text_tokens(offsets, mask)
    if not tokens or start < offsets[tokens[0]][0] or end > offsets[tokens[-1]][1]:
        return None
    inside = [token for token in tokens if offsets[token][0] < end and offsets[token][1] > start]
    return (inside[0], inside[-1]) if inside else None


def tokens_to_chars(first: int, last: int, offsets: Sequence[tuple[int, int]]) -> Span:
    """Characters from the start of sub-token ``first`` to the end of ``last``, both inclusive.

    Raises:
        ValueError: ``first`` is after ``last``, or either is out of range.
    """
    if not 0 <= first <= last < len(offsets):
        raise ValueError(f"no sub-tokens {first} to {last} among {len(offsets)}")
    return Span(offsets[first][0], offsets[last][1])


def trimmed(offsets: Sequence[tuple[int, int]], mask: Sequence[bool], text: str) -> list[tuple[int, int]]:
    """``offsets`` without white space at the ends of the text's sub-tokens; nothing is left of one that is all space.

    SentencePiece and the byte-level BPE of GPT-2 count the space before a word to the word.

    Args:
        offsets: characters of each sub-token.
        mask: which sub-tokens are of the text; the others are left as they are.
        text: what the offsets of those point into.

    Raises:
        ValueError: ``offsets`` and ``mask`` differ in length.
    """
    pairs = zip(offsets, mask, strict=True)
    return [without_space(start, end, text) if ours else (start, end) for (start, end), ours in pairs]


def without_space(start: int, end: int, text: str) -> tuple[int, int]:
    """The stretch ``[start, end)`` of ``text`` without white space at its ends; empty if it is all space."""
    left = len(text[start:end]) - len(text[start:end].lstrip())
    return start + left, start + left + len(text[start:end].strip())


def _text_tokens(offsets: Sequence[tuple[int, int]], mask: Sequence[bool]) -> list[int]:
    """Indices of the text's sub-tokens that stand for at least one character."""
    pairs = enumerate(zip(offsets, mask, strict=True))
    return [index for index, ((start, end), ours) in pairs if ours and start < end]
