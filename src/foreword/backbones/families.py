"""The table of supported families: what cannot be asked of a model and must be known.

Everything else (layers, heads, sizes) is found by running the model once, so a family that
`transformers` routes through its attention interface needs one line here and its tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Family:
    """One family of backbones.

    Attributes:
        summary: one line for `foreword backbones`.
        positions: from a `transformers` config, how many tokens one row may have.
        options: keywords for `AutoModel.from_pretrained`.
    """

    summary: str
    positions: Callable[[Any], int]
    options: tuple[tuple[str, Any], ...] = ()


def _all_positions(config: Any) -> int:
    return int(config.max_position_embeddings)


def _positions_after_padding(config: Any) -> int:
    # RoBERTa numbers positions from padding_idx + 1, so the table's first rows are never text.
    return int(config.max_position_embeddings) - int(config.pad_token_id) - 1


# The poolers of these models are left out: prompts are read by heads of our own, and an untrained
# or unrelated pooler is never used frozen by accident.
_NO_POOLER = (("add_pooling_layer", False),)

FAMILIES: dict[str, Family] = {
    "bert": Family("BERT and its kin (MiniLM, TinyBERT, BioBERT, ...)", _all_positions, _NO_POOLER),
    "roberta": Family("RoBERTa and its kin", _positions_after_padding, _NO_POOLER),
    "xlm-roberta": Family("XLM-RoBERTa, 100 languages", _positions_after_padding, _NO_POOLER),
    "camembert": Family("CamemBERT, French RoBERTa", _positions_after_padding, _NO_POOLER),
    "electra": Family("ELECTRA discriminators, also with narrow embeddings", _all_positions),
}
