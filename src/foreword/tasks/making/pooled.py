"""Settings of the tasks whose head reads one vector per row."""

from __future__ import annotations

from pydantic import Field

from foreword.heads import PooledHead, Pooling, Vocabulary
from foreword.tasks.making.depth import Depth


class Pooled(Depth):
    """What is pooled, and what stands on top of it."""

    pooling: Pooling = "mean"
    """Read the 'mean' of the tokens, the 'first' one ([CLS]), or the 'last' one, as decoders need."""
    hidden_layer: bool = False
    """Whether the head has a trained tanh layer of width D before its linear one, as BERT's pooler."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout in the head."""

    def pooled_head(
        self, hidden_size: int, outputs: int, vocabulary: Vocabulary | None, *, chooses_class: bool = True
    ) -> PooledHead:
        """A fresh head with these settings.

        Args:
            hidden_size: D.
            outputs: C.
            vocabulary: the backbone, whose layers are counted where all are read.
            chooses_class: as `PooledHead` says.

        Raises:
            BackboneError: there is none, and all layers are read.
        """
        return PooledHead(
            hidden_size,
            outputs,
            pooling=self.pooling,
            hidden_layer=self.hidden_layer,
            dropout=self.dropout,
            chooses_class=chooses_class,
            states=self.states_read(vocabulary),
        )
