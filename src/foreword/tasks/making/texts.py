"""What tasks on one text, or on a pair of texts, share: its fields, and its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreword.data.batching import Encoded
from foreword.data.records import Record
from foreword.tasks.base import Columns, Encoding


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
            "id": str(record.get(self.id, number)),
            "text": record.text(self.text),
            "pair": None if self.pair is None else record.text(self.pair),
        }


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
