"""Which hidden states a head reads: a setting of every task whose head reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from foreword.errors import BackboneError
from foreword.heads import Vocabulary

Layers = Annotated[
    Literal["last", "all"],
    Field(
        description="Which hidden states the head reads: of the 'last' layer, or of the embeddings and of 'all' layers "
        "side by side. All are better for words and answers, where the last layer has forgotten much; measured in "
        "docs/log.md."
    ),
]


class Depth(BaseModel):
    """How deep the head reads."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    layers: Layers = "last"

    def states_read(self, vocabulary: Vocabulary | None) -> int:
        """How many hidden states per position the head reads side by side: 1, or N + 1.

        Args:
            vocabulary: the backbone, whose layers are counted where all are read.

        Raises:
            BackboneError: it was not handed in, and all are read.
        """
        if self.layers == "last":
            return 1
        if vocabulary is None:
            raise BackboneError(
                "task.layers = 'all' needs the backbone, whose layers the head reads: build_head(hidden_size, backbone)"
            )
        return vocabulary.depth + 1
