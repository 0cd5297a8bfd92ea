"""Where the vectors of an input prompt start from: rows of the backbone's own embedding table.

Source: Lester et al. 2021, section 3.2, and its code. What is random is drawn from torch's global
generator. All return float32 on the CPU, `(length, W)`, cut off from the table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from foreword.errors import MethodError
from foreword.methods.base import Host

POPULATION = 5000
"""So many entries at the beginning of the vocabulary are sampled from: most vocabularies begin with what is common."""
_PLACEHOLDER = re.compile(r"[\[<]unused_?\d+[\]>]")
"""Entries that no text has, so that their rows were never trained (BERT's [unused0], Gemma's <unused0>)."""


def input_width(host: Host) -> int:
    """W of a backbone among whose embeddings vectors can be put.

    Raises:
        MethodError: it has none.
    """
    if host.embedding_size == 0:
        raise MethodError(
            "the backbone reads images, so no vectors can be put among its embeddings. Use a method that trains keys "
            "and values, such as 'ptuning-v2'"
        )
    return host.embedding_size


def vocabulary_rows(host: Host, length: int) -> Tensor:
    """Rows of common entries, all different unless there are fewer than ``length``; no special tokens among them."""
    return _rows(host, sampled_ids(host, length))


def label_rows(host: Host, labels: Sequence[str], length: int) -> Tensor:
    """One row per label, the mean of its pieces' embeddings; the other rows are sampled from the vocabulary.

    Raises:
        MethodError: there are no labels, more than ``length``, or one without pieces.
    """
    if not labels:
        raise MethodError("method.init: 'labels' needs a task that has labels. Choose another start")
    if len(labels) > length:
        raise MethodError(
            f"method.init: 'labels' wants one vector for each of {len(labels)} labels, but method.prompt_length is "
            f"{length}. Raise it, or choose another start"
        )
    means = [_rows(host, text_ids(host, label, f"the label {label!r}")).mean(0) for label in labels]
    return torch.stack([*means, *vocabulary_rows(host, length - len(labels))])


def text_rows(host: Host, text: str, length: int) -> Tensor:
    """One row per piece of a text, of which no more than ``length`` are read; the rest is sampled from the vocabulary.

    Raises:
        MethodError: the text has no pieces.
    """
    ids = text_ids(host, text, "method.init_text")[:length]
    return _rows(host, [*ids, *sampled_ids(host, length - len(ids))])


def mask_rows(host: Host, length: int) -> Tensor:
    """The mask token's row, over and over.

    Raises:
        MethodError: the backbone has no mask token.
    """
    mask = host.tokenizer.mask_token_id
    if mask is None:
        raise MethodError("the vectors start from the mask token, and this backbone has none. Use 'prompt-tuning'")
    return _rows(host, [mask] * length)


def _rows(host: Host, ids: Sequence[int]) -> Tensor:
    with torch.no_grad():
        return host.embed(torch.tensor(ids, dtype=torch.long)).float().cpu()


def sampled_ids(host: Host, count: int) -> list[int]:
    """Ids of common entries, with replacement only where there are not enough."""
    ids = _common(host)
    picked = torch.randperm(len(ids))[:count] if count <= len(ids) else torch.randint(len(ids), (count,))
    return [ids[number] for number in picked.tolist()]


def _common(host: Host) -> list[int]:
    """The first `POPULATION` ids, without those that stand for no text."""
    first = list(range(min(POPULATION, host.vocabulary_size, len(host.tokenizer))))
    special = set(host.tokenizer.all_special_ids)
    pieces = host.tokenizer.convert_ids_to_tokens(first)
    return [
        number
        for number, piece in zip(first, pieces, strict=True)
        if number not in special and piece is not None and not _PLACEHOLDER.fullmatch(piece)
    ]


def text_ids(host: Host, text: str, what: str) -> list[int]:
    """Ids of a text's pieces, without special tokens around them."""
    ids: list[int] = host.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if not ids:
        raise MethodError(f"{what} has no pieces in the backbone's vocabulary to start from")
    return ids
