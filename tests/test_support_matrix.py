"""docs/support.md says what is found here, combination by combination (`-k "[vit-"` tries one family alone)."""

from __future__ import annotations

import pytest
import torch

import support_matrix as matrix
from foreword.backbones import FAMILIES
from foreword.injection import Injection
from foreword.methods import METHODS
from support_matrix import FEATURES, Case, examine

PAGE = matrix.PAGE.read_text("utf-8")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_is_as_the_page_says(family, method):
    row = examine(family, method)
    assert row.failures == {}
    section = PAGE.partition(f"\n## {family}\n")[2].partition("\n## ")[0]
    wrong = "docs/support.md says otherwise: run python tests/support_matrix.py and see what has changed"
    assert matrix.line(method, row) in section.splitlines(), wrong
    for note in matrix.notes(family, {(family, method): row}):
        assert note.partition(": ")[2] in section, wrong


def test_the_page_has_every_family_and_method_and_nothing_else():
    sections = {part.partition("\n")[0]: part for part in PAGE.split("\n## ")[2:]}
    assert list(sections) == sorted(FAMILIES)
    for section in sections.values():
        rows = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")]
        assert rows == ["method", *METHODS]
    assert PAGE.startswith(matrix.INTRODUCTION)
    assert matrix.NO not in PAGE.replace("|", " ").split()


class Deaf(Case):
    """Reads no prompt at all."""

    def states(self, model=None, *, injection=None, **rows):
        zero = sum(parameter.sum() for parameter in self.own.values()) * 0
        return [states + zero for states in matrix.run((model or self.model).backbone, None, **rows)]


class Leaking(Case):
    """Padding shows in what every row is."""

    def states(self, model=None, *, injection=None, **rows):
        return [states + 1e-3 * rows.get("extra", 0) for states in super().states(model, injection=injection, **rows)]


class Forgetful(Case):
    """What it computes depends on which model it is asked of, as where something was not saved."""

    def states(self, model=None, *, injection=None, **rows):
        states = super().states(model, injection=injection, **rows)
        return states if model is None else [row + 1e-3 for row in states]


class Restless(Case):
    """Training moves a weight of the backbone."""

    def states(self, model=None, *, injection=None, **rows):
        states = super().states(model, injection=injection, **rows)
        if model is not None:
            with torch.no_grad():
                next(model.backbone.model.parameters()).view(-1)[5] += 1e-6
        return states


class Moody(Case):
    """Something in it is other in training mode."""

    def states(self, model=None, *, injection=None, **rows):
        factor = 1.001 if self.model.backbone.model.training else 1.0
        return [states * factor for states in super().states(model, injection=injection, **rows)]


class TestTheChecksThemselves:
    """A check that lets everything through would fill the page with yes as well."""

    @pytest.mark.parametrize(
        ("broken", "feature"),
        [
            (Deaf, "effect"),
            (Deaf, "gradient"),
            (Leaking, "padding"),
            (Moody, "checkpointing"),
            (Restless, "frozen"),
            (Forgetful, "saved"),
        ],
    )
    def test_what_is_broken_is_seen(self, broken, feature):
        FEATURES[feature](Case("bert", "ptuning-v2"))
        with pytest.raises(AssertionError):
            FEATURES[feature](broken("bert", "ptuning-v2"))

    def test_rows_that_read_the_wrong_prompt_are_seen(self, monkeypatch):
        honest = Injection._rows
        monkeypatch.setattr(Injection, "_rows", lambda self, device: honest(self, device) * 0)
        with pytest.raises(AssertionError):
            FEATURES["mixed"](Case("bert", "ptuning-v2"))

    def test_a_precision_that_loses_all_is_seen(self, monkeypatch):
        monkeypatch.setattr(torch, "autocast", lambda *_, **__: matrix.torch.random.fork_rng(devices=[]))
        with pytest.raises(AssertionError, match="off by 0"):
            FEATURES["bf16"](Case("bert", "ptuning-v2"))
