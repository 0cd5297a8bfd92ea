"""Keys and values of real tokens, for prompts at every layer to start from.

Source: Li & Liang 2021, section 7.4. The sampled vocabulary is that of Lester et al. 2021, section 3.2.
"""

from __future__ import annotations

from typing import Literal

from foreword.errors import MethodError
from foreword.injection import Prefix
from foreword.methods.base import Blueprint, Host
from foreword.methods.making.initializers import sampled_ids, text_ids

Init = Literal["normal", "text", "vocabulary"]


def check_init(init: Init, text: str | None) -> None:
    """Refuse a text that is missing, or that would not be used.

    Raises:
        ValueError: for a validator to pass on.
    """
    if (init == "text") != (text is not None):
        raise ValueError("init = 'text' and init_text go together: set both or neither")


def start_tokens(backbone: Host, length: int, text: str | None) -> list[int]:
    """Ids of ``length`` tokens: those of a text, repeated or cut; without one, common ones sampled.

    Raises:
        MethodError: the backbone reads no text, or the text has no tokens.
    """
    if backbone.embedding_size == 0:
        raise MethodError("method.init: the backbone reads images and has no words to start from. Use init = 'normal'")
    if text is None:
        return [] if isinstance(backbone, Blueprint) else sampled_ids(backbone, length)
    ids = text_ids(backbone, text, "method.init_text")
    return [ids[number % len(ids)] for number in range(length)]


def start_prefix(backbone: Host, length: int, text: str | None) -> Prefix:
    """Keys and values ``(H, length, E)`` of tokens that the bare backbone reads as one text, special tokens apart.

    Raises:
        MethodError: as `start_tokens` does.
    """
    return backbone.activations(start_tokens(backbone, length, text))
