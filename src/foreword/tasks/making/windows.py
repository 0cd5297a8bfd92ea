"""Rows of whole words: a text longer than the backbone allows is read in windows, so that no word is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foreword.data.alignment import first_tokens
from foreword.data.batching import Encoded
from foreword.data.examples import WordsExample


@dataclass(frozen=True, slots=True)
class Window:
    """One row, and which words it answers for.

    Attributes:
        row: token ids, segment numbers, and as `Encoded.words` the first sub-token of each word.
        offsets: characters of the whole text per token, ``(0, 0)`` where it is not of the text.
        stop: number of the first word that is left to the next window.
        behind: which tokens are of what stands behind the text.
    """

    row: Encoded
    offsets: Sequence[tuple[int, int]]
    stop: int
    behind: Sequence[bool]


def window(example: WordsExample, start: int, tokenizer: Any, max_length: int, behind: str | None = None) -> Window:
    """The words from ``start`` that fit into one row; a word is cut only where it is alone.

    Args:
        example: the text and its words.
        start: number of the first word.
        tokenizer: a fast one.
        max_length: most tokens of the row.
        behind: a second text, which is read whole, behind the tokenizer's separator.
    """
    base = example.words[start].start
    encoded = tokenizer(
        example.text[base:],
        behind,
        truncation="only_first",
        max_length=max_length,
        return_offsets_mapping=True,
        verbose=False,
    )
    parts = encoded.encodings[0]
    ours = [sequence == 0 for sequence in parts.sequence_ids]
    offsets = [(a + base, b + base) if mine else (0, 0) for (a, b), mine in zip(parts.offsets, ours, strict=True)]
    stop = len(example.words)
    if parts.overflowing:
        reached = max((end for (_, end), mine in zip(offsets, ours, strict=True) if mine), default=base)
        # The last word may be cut in the middle, so it moves to the next row, unless it is alone.
        whole = [i for i in range(start, stop) if example.words[i].end <= reached]
        stop = max(whole[-1] if len(whole) > 1 else start + 1, start + 1)
    firsts = first_tokens(example.words[start:stop], offsets, ours)
    row = Encoded(
        input_ids=encoded["input_ids"],
        token_type_ids=encoded.get("token_type_ids"),
        words=tuple((start + i, token) for i, token in enumerate(firsts) if token is not None),
    )
    return Window(row, offsets, stop, [sequence == 1 for sequence in parts.sequence_ids])
