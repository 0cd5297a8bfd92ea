"""What tasks on one text, or on a pair of texts, share: its fields, its row, and a head that pools it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic

from pydantic import Field

from foreword.data.batching import Encoded
from foreword.data.records import Record
from foreword.heads import PooledHead, Pooling
from foreword.tasks.base import Columns, Encoding, ExampleT, PredictionT, Task


class TextColumns(Columns):
    """Which fields hold what."""

    text: str = "text"
    """The text, or the first of a pair."""
    pair: str | None = None
    """The second text of a pair; none for single texts."""
    id: str = "id"
    """A name for the example, if the data has one."""

    def texts(self, record: Record, number: int) -> dict[str, Any]:
        """The fields of `foreword.data.examples.Texts`.

        Args:
            record: as read.
            number: the name of an example whose record brings none.

        Raises:
            DataError: a text is missing or blank.
        """
        return {
            "id": str(record.fields.get(self.id, number)),
            "text": record.text(self.text),
            "pair": None if self.pair is None else record.text(self.pair),
        }


class PooledTask(Task[ExampleT, PredictionT], Generic[ExampleT, PredictionT]):
    """A task whose head pools a row and gives numbers that stand by themselves."""

    pooling: Pooling = "mean"
    """Read the 'mean' of the tokens, the 'first' one ([CLS]), or the 'last' one, as decoders need."""
    hidden_layer: bool = False
    """Whether the head has a trained tanh layer (D x D) before its linear one, as BERT's pooler."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the head."""

    def pooled_head(self, hidden_size: int, outputs: int) -> PooledHead:
        """A fresh head with so many outputs."""
        return PooledHead(
            hidden_size,
            outputs,
            pooling=self.pooling,
            hidden_layer=self.hidden_layer,
            dropout=self.dropout,
            chooses_class=False,
        )


def encode_texts(
    texts: Sequence[str], targets: Mapping[str, int | float | list[int]], tokenizer: Any, max_length: int
) -> Encoding:
    """One row; a text that is too long loses its end, the longer of a pair first.

    Args:
        texts: one or two.
        targets: of the row.
        tokenizer: a fast one.
        max_length: most tokens, special ones included.
    """
    encoded = tokenizer(*texts, truncation="longest_first", max_length=max_length, verbose=False)
    truncated = any(part.overflowing for part in encoded.encodings)
    row = Encoded(input_ids=encoded["input_ids"], token_type_ids=encoded.get("token_type_ids"), targets=targets)
    return Encoding((row,), "truncated" if truncated else None)
