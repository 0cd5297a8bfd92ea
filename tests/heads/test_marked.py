"""Marked stretches beside the pooled text, and beside every token."""

from __future__ import annotations

import pytest
import torch

from foreword.heads import MarkedHead, MarkedTokenHead

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


def test_logits_by_hand():
    torch.manual_seed(0)
    head = MarkedTokenHead(4, 3, width=5, dropout=0.0)
    hidden, mask = torch.randn(2, 4, 4), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    marks = torch.tensor([[0, 1, 1, 2], [0, 0, 0, 0]])
    logits = head(hidden, mask, marks)
    for row, marked in ((0, (hidden[0, 1] + hidden[0, 2]) / 2), (1, torch.zeros(4))):
        for token in range(4 - row):
            inner = torch.tanh(head.token.weight @ hidden[row, token] + head.token.bias + head.marked.weight @ marked)
            torch.testing.assert_close(logits[row, token], head.linear.weight @ inner + head.linear.bias)
    assert (logits[1, 3] == torch.finfo(torch.float32).min).all()
    torch.testing.assert_close(head(hidden, mask)[1], logits[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_does_not_depend_on_its_padding(dtype):
    torch.manual_seed(0)
    head = MarkedTokenHead(8, 3, width=4, dropout=0.0).to(dtype)
    hidden = torch.randn(1, 5, 8, dtype=dtype)
    mask, marks = torch.tensor([[1, 1, 1, 0, 0]]), torch.tensor([[0, 1, 0, 0, 0]])
    torch.testing.assert_close(head(hidden, mask, marks)[:, :3], head(hidden[:, :3], mask[:, :3], marks[:, :3]))


def test_another_predicate_gives_other_tags_by_more_than_a_shift():
    torch.manual_seed(0)
    head = MarkedTokenHead(8, 3, width=16, dropout=0.0)
    hidden, mask = torch.randn(1, 4, 8), torch.ones(1, 4)
    one, other = (head(hidden, mask, torch.tensor([marks])) for marks in ([1, 0, 0, 0], [0, 0, 0, 1]))
    difference = (one - other)[0]
    assert (difference - difference[0]).abs().max() > 1e-3


def test_every_weight_gets_a_gradient():
    head = MarkedTokenHead(8, 3, width=4, dropout=0.0)
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    logits = head(hidden, torch.tensor([[1, 1, 1, 0]]), torch.tensor([[0, 1, 0, 0]]))
    torch.nn.functional.cross_entropy(logits[0], torch.tensor([0, 1, 2, -100])).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    assert (hidden.grad[0, 3] == 0).all()
    assert hidden.grad.isfinite().all()
