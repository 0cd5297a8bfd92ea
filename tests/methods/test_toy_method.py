"""A new method takes one class and one line of the table; everything else finds it there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from pydantic import PositiveInt
from torch import nn

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.errors import RecipeError
from foreword.injection import KeyValue, Prompt
from foreword.methods import METHODS, Host, Method, PromptEncoder
from foreword.recipes.schema import parse_recipe
from tiny import tiny_backbone
from tiny_artifacts import TASKS, records, tiny_artifact


class Constant(Method):
    """One learned number per layer, repeated over every key and value of the prompt."""

    name: ClassVar[str] = "constant"
    summary: ClassVar[str] = "a toy"

    prompt_length: PositiveInt = 2
    """P."""

    def build(self, backbone: Host, labels: Sequence[str] = ()) -> PromptEncoder:
        """A number for every site."""
        del labels

        class Numbers(PromptEncoder):
            def __init__(self) -> None:
                super().__init__()
                self.numbers = nn.Parameter(torch.randn(len(backbone.sites)))

            def forward(self) -> Prompt:
                prefix = {}
                for number, (site, shape) in zip(self.numbers, backbone.sites.items(), strict=True):
                    full = number.expand(shape.heads, length, shape.head_size)
                    prefix[site] = KeyValue(full, full)
                return Prompt(prefix)

        length = self.prompt_length
        return Numbers()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(METHODS, "constant", Constant)


def test_a_toy_method_trains_saves_and_answers_in_a_mixed_batch(tmp_path):
    backbone = tiny_backbone()
    data = records("ner")
    run = fw.train(backbone, Constant(prompt_length=3), TASKS["ner"], train=data, dev=data, progress=False, epochs=2)
    moved = run.model.prompt.numbers.detach().clone()
    run.save(tmp_path / "toy")
    toy = load_artifact(tmp_path / "toy")
    assert toy.method == Constant(prompt_length=3)
    assert {float(pair.key.flatten()[0]) for pair in toy.prompt.prefix.values()} == set(moved.tolist())

    items = records("ner", labelled=False)
    alone = fw.load(tmp_path / "toy", backbone=tiny_backbone()).predict(items)
    deep = load_artifact(tiny_artifact("classification", "ptuning-v2"))
    mixed = fw.Engine(tiny_backbone(), {"toy": toy, "deep": deep})
    turns = [pair for item in items for pair in (("toy", item), ("deep", {"text": "Anna visited London."}))]
    answers = mixed.predict(turns)
    assert [answer["entities"] for answer in answers[::2]] == [answer["entities"] for answer in alone]
    assert all(answer["label"] in ("yes", "no") for answer in answers[1::2])


def test_a_toy_method_is_a_table_in_a_recipe():
    raw = {
        "backbone": {"name": "x"},
        "task": {"type": "ner"},
        "method": {"type": "constant", "prompt_length": 4},
        "data": {"train": "a.conll", "dev": "b.conll"},
    }
    assert parse_recipe(raw, name="toy").method == Constant(prompt_length=4)
    with pytest.raises(RecipeError, match=r"method\.prompt_lenght.*prompt_length"):
        parse_recipe({**raw, "method": {"type": "constant", "prompt_lenght": 4}}, name="toy")
