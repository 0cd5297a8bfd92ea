"""The model that everyone is given, and words to make texts of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging

from foreword.backbones.loading import packaged_folder

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
WORDS = (
    *("the", "old", "doctor", "visited", "a", "good", "movie", "in", "london"),
    *("and", "wrote", "letters", "to", "my", "sister", "about", "cheap", "food"),
)
"""Each is one token."""


class Pretrained(NamedTuple):
    """A model: what Foreword is told, and the folder of its files."""

    name: str
    folder: str


@contextmanager
def pretrained(*, tiny: bool = False) -> Iterator[Pretrained]:
    """MiniLM, or a random model of its kind, depth and vocabulary that is 24 wide."""
    source = packaged_folder(BACKBONE)
    if not tiny:
        yield Pretrained(BACKBONE, str(source))
        return
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        config = AutoConfig.from_pretrained(source, hidden_size=24, intermediate_size=24)
        AutoModel.from_config(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        yield Pretrained(folder, folder)
