"""What a language model wrote, and what it thinks of what is written already."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from foreword.backbones import Backbone
from foreword.tasks import WritingTask, Written

_PLAIN = {"do_sample": False, "repetition_penalty": 1.0, "early_stopping": False}
"""What the configuration of a published model may say otherwise."""


def settings_of(task: WritingTask[Any, Any], backbone: Backbone) -> dict[str, Any]:
    """Settings of `generate` for a task: a text ends with the token that closes its targets."""
    ends = {"max_new_tokens": task.longest, "eos_token_id": backbone.tokenizer.eos_token_id}
    return {**_PLAIN, **task.search, **ends}


def texts_of(ids: Tensor, tokenizer: Any) -> list[Written]:
    """Written tokens ``(B, U)``, padded on the right, as texts without special tokens."""
    return [
        Written(
            text=tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip(),
            finished=tokenizer.eos_token_id in row,
        )
        for row in ids.tolist()
    ]


def token_scores(logits: Tensor, written: Tensor) -> Tensor:
    """What is kept of logits over the vocabulary, ``(B, U, 2)``: per token its log probability in nats, and 1 where
    greedy search would have chosen it.

    Args:
        logits: ``(B, U, V)``.
        written: ``(B, U)`` int64, negative at padding, of which what is said means nothing.
    """
    ids = written.clamp(min=0)[..., None]
    own = logits.gather(-1, ids)[..., 0].float()
    total = torch.logsumexp(logits.float(), -1)
    return torch.stack([own - total, (logits.argmax(-1) == written).float()], -1)
