"""Templates: texts inside other words, shortened to fit while the words around them stay."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from foreword.data.examples import Span
from foreword.errors import TaskError
from foreword.tasks.making.truncation import longest_first

_FIELD = re.compile(r"\{(\w*)\}")


class Template:
    """Words with fields in braces, such as "premise: {text} hypothesis: {pair}".

    Args:
        template: the words.
        known: the fields there may be, the first of which must be there.

    Attributes:
        fields: those that are there, in order.

    Raises:
        ValueError: a field is unknown, missing, or there twice.
    """

    def __init__(self, template: str, known: Sequence[str]) -> None:
        self.fields = tuple(match[1] for match in _FIELD.finditer(template))
        for field in self.fields:
            if field not in known:
                raise ValueError(f"'{{{field}}}' is not one of {', '.join(f'{{{name}}}' for name in known)}")
            if self.fields.count(field) > 1:
                raise ValueError(f"'{{{field}}}' comes twice")
        if known[0] not in self.fields:
            raise ValueError(f"expected {{{known[0]}}} where the {known[0]} goes")
        self._template = template

    def fill(self, values: Mapping[str, str]) -> tuple[str, dict[str, Span]]:
        """The template with its fields filled in, and the characters of each of them."""
        filled, spans, end = "", {}, 0
        for match in _FIELD.finditer(self._template):
            filled += self._template[end : match.start()]
            spans[match[1]] = Span(len(filled), len(filled) + len(values[match[1]]))
            filled += values[match[1]]
            end = match.end()
        return filled + self._template[end:], spans


def tokens_of(text: str, tokenizer: Any, *, add_special_tokens: bool = True) -> Any:
    """Tokens with their places in the text, and which of them are special."""
    return tokenizer(
        text,
        add_special_tokens=add_special_tokens,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )


def without_closing(parts: Any, kept: Sequence[int]) -> list[int]:
    """Those of some tokens that stand before the special ones at a row's end, where a decoder goes on with a text."""
    left = list(kept)
    while len(left) > 1 and parts["special_tokens_mask"][left[-1]]:
        left.pop()
    return left


def too_many(parts: Any, kept: Sequence[int], spans: Sequence[Span], room: int) -> set[int]:
    """Which tokens to leave out, from the end of the longest text first.

    Args:
        parts: tokens of a filled template, as `tokens_of` gives them.
        kept: numbers of those that are to go into the row.
        spans: the texts, of which tokens may be left out.
        room: how many tokens there may be.

    Raises:
        TaskError: no token would be left of the texts.
    """
    over = len(kept) - room
    offsets, special = parts["offset_mapping"], parts["special_tokens_mask"]
    texts = [[i for i in kept if not special[i] and _inside(offsets[i], span)] for span in spans]
    if over > 0 and over >= sum(map(len, texts)):
        raise TaskError(
            f"task.template: leaves no room to the text in a row of {room} tokens. Shorten the template, "
            "or raise training.max_length"
        )
    return longest_first(texts, over)


def _inside(span: tuple[int, int], field: Span) -> bool:
    return field.start <= span[0] and span[1] <= field.end
