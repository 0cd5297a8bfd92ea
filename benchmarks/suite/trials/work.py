"""What every trial is given: a model, a prompt and rows of text."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer

import foreword as fw
from foreword.data.batching import Batch, Encoded, collate
from foreword.injection import Injection, Prompt
from suite.pretrained import WORDS, Pretrained

PROMPT = 20
Run = Callable[[], list[Tensor]]
"""Does the work once. Gives a number or a vector per token, row by row: ``(length, D)`` each, padding left out."""


class Work:
    """Rows of so many tokens for one model with one prompt; a backbone of its own for whoever changes it.

    Args:
        model: that is read.
        lengths: tokens of each row.
        threads: of the computation.
        tiny: whether it is only seen if it runs.
    """

    def __init__(self, model: Pretrained, lengths: list[int], *, threads: int, tiny: bool) -> None:
        self._model, self.lengths, self.threads, self.tiny = model, lengths, threads, tiny

    @cached_property
    def rows(self) -> list[Encoded]:
        """Encoded texts of random words."""
        tokenizer, chance = AutoTokenizer.from_pretrained(self._model.folder), random.Random(0)
        texts = [" ".join(chance.choices(WORDS, k=length - 2)) for length in self.lengths]
        return [Encoded(input_ids=ids) for ids in tokenizer(texts)["input_ids"]]

    @cached_property
    def batch(self) -> Batch:
        """All rows in one padded batch."""
        return collate(self.rows, range(len(self.rows)), 0)

    def backbone(self, **options: Any) -> fw.Backbone:
        """A fresh one; ``options`` are those of `load_backbone`."""
        return fw.load_backbone(self._model.name, device="cpu", **options)

    def compiled(self, **options: Any) -> fw.Backbone:
        """A fresh one, compiled for any shape when it first runs, with nothing kept from earlier processes."""
        torch.compiler.config.force_disable_caches = True
        backbone = self.backbone(**options)
        backbone.compile(dynamic=True, backend="eager" if self.tiny else "inductor")
        return backbone

    def prompt(self, backbone: fw.Backbone) -> Prompt:
        """Keys and values at every site, the same random numbers for everyone."""
        torch.manual_seed(0)
        encoder = fw.PTuningV2(prompt_length=PROMPT, init_scale=0.5).build(backbone)
        assert encoder is not None
        return encoder().map(Tensor.detach)

    def injection(self, backbone: fw.Backbone) -> Injection:
        """Every row reads the prompt."""
        return Injection([self.prompt(backbone)])

    def unpadded(self, hidden: Tensor) -> list[Tensor]:
        """The states ``(B, T, D)`` of the batch, row by row."""
        return [states[:length] for states, length in zip(hidden, self.lengths, strict=True)]
