"""The pooled text and its marked stretches side by side."""

from __future__ import annotations

import pytest
import torch

from foreword.heads import MarkedHead

MARKS = torch.tensor([[0, 1, 1, 2, 0], [2, 0, 0, 1, 0], [0, 1, 0, 2, 2]])
MASK = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]])


def states():
    hidden = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
    return hidden.masked_fill(~MASK.bool()[:, :, None], 1e4)  # padding is far off, so that it shows


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("hidden_layer", [False, True])
def test_each_row_by_hand(pooling, hidden_layer):
    torch.manual_seed(0)
    head = MarkedHead(8, 3, stretches=2, pooling=pooling, hidden_layer=hidden_layer, dropout=0.0)
    hidden = states()
    for row in range(3) if pooling != "first" else range(2):
        real = hidden[row][MASK[row].bool()]
        pooled = {"mean": real.mean(0), "first": real[0], "last": real[-1]}[pooling]
        stretches = [hidden[row][MARKS[row] == number].mean(0) for number in (1, 2)]
        expected = head.layers(torch.cat([pooled, *stretches]))
        torch.testing.assert_close(head(hidden, MASK, MARKS)[row], expected, rtol=1e-4, atol=1e-4)
    shapes = [tuple(p.shape) for p in head.parameters() if p.dim() == 2]
    assert shapes == ([(8, 24), (3, 8)] if hidden_layer else [(3, 24)])


def test_one_stretch():
    head = MarkedHead(8, 2, stretches=1, pooling="mean", hidden_layer=False, dropout=0.0)
    assert head.layers[-1].weight.shape == (2, 16)
    other = torch.where(MARKS == 2, 0, MARKS)
    assert torch.equal(head(states(), MASK, MARKS), head(states(), MASK, other))


def test_rows_without_marks_are_no_input():
    head = MarkedHead(8, 2, stretches=1, pooling="mean", hidden_layer=False, dropout=0.0)
    with pytest.raises(TypeError, match="reads marked stretches"):
        head(states(), MASK)
