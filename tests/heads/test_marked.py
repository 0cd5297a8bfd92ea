"""Marked stretches beside the pooled text, and beside every token."""

from __future__ import annotations

import pytest
import torch

from foreword.heads import MarkedHead, MarkedTokenHead
from foreword.heads.marked import mean_between
from foreword.inference.engine.heads import Stack

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
@pytest.mark.parametrize("between", [0, 2])
def test_a_row_does_not_depend_on_its_padding(dtype, between):
    torch.manual_seed(0)
    head = MarkedTokenHead(8, 3, width=4, dropout=0.0, between=between).to(dtype)
    hidden = torch.randn(1, 5, 8, dtype=dtype)
    mask, marks = torch.tensor([[1, 1, 1, 0, 0]]), torch.tensor([[0, 1, 0, 0, 0]])
    short = head(hidden[:, :3], mask[:, :3], marks[:, :3])
    torch.testing.assert_close(head(hidden, mask, marks)[:, :3], short)
    torch.testing.assert_close(head(hidden.roll(2, 1), mask.roll(2, 1), marks.roll(2, 1))[:, 2:], short)


class TestBetween:
    @pytest.mark.parametrize("marked", [(), (0,), (3,), (6,), (2, 3), (1, 4), tuple(range(7))])
    def test_is_the_mean_of_what_stands_strictly_between(self, marked):
        torch.manual_seed(0)
        vectors = torch.randn(1, 7, 3, dtype=torch.float64)
        chosen = torch.tensor([[place in marked for place in range(7)]])
        found = mean_between(vectors, chosen)[0]
        for place in range(7):
            nearest = [other for other in marked if place < min(marked) or place > max(marked)]
            stretch = []
            if nearest:
                inner = sorted((place, min(nearest, key=lambda other: abs(other - place))))
                stretch = [vectors[0, other] for other in range(inner[0] + 1, inner[1])]
            expected = sum(stretch) / len(stretch) if stretch else torch.zeros(3, dtype=torch.float64)
            torch.testing.assert_close(found[place], expected)

    def test_rows_have_their_own_marks(self):
        vectors, marks = torch.arange(10.0).view(2, 5, 1), torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]) == 1
        expected = torch.tensor([[0, 0, 1, 1.5, 2], [7, 7.5, 8, 0, 0]])
        torch.testing.assert_close(mean_between(vectors, marks)[:, :, 0], expected)

    def test_is_exact_in_long_rows_of_half_precision(self):
        vectors = torch.full((1, 4000, 1), 1.01, dtype=torch.bfloat16)
        marks = torch.zeros(1, 4000) == 1
        marks[0, 0] = True
        assert (mean_between(vectors, marks)[0, 2:] == vectors[0, 2:]).all()

    def test_logits_by_hand(self):
        torch.manual_seed(0)
        head = MarkedTokenHead(4, 3, width=5, dropout=0.0, between=2)
        hidden, marks = torch.randn(1, 4, 4), torch.tensor([[1, 0, 0, 0]])
        logits = head(hidden, torch.ones(1, 4), marks)
        read = head.path.weight @ head.between.weight
        between = [torch.zeros(4), torch.zeros(4), hidden[0, 1], (hidden[0, 1] + hidden[0, 2]) / 2]
        for token in range(4):
            seen = head.token.weight @ hidden[0, token] + head.token.bias + head.marked.weight @ hidden[0, 0]
            inner = torch.tanh(seen + read @ between[token])
            torch.testing.assert_close(logits[0, token], head.linear.weight @ inner + head.linear.bias)


def test_another_predicate_gives_other_tags_by_more_than_a_shift():
    torch.manual_seed(0)
    head = MarkedTokenHead(8, 3, width=16, dropout=0.0)
    hidden, mask = torch.randn(1, 4, 8), torch.ones(1, 4)
    one, other = (head(hidden, mask, torch.tensor([marks])) for marks in ([1, 0, 0, 0], [0, 0, 0, 1]))
    difference = (one - other)[0]
    assert (difference - difference[0]).abs().max() > 1e-3


def test_every_weight_gets_a_gradient():
    head = MarkedTokenHead(8, 3, width=4, dropout=0.0, between=2)
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    logits = head(hidden, torch.tensor([[1, 1, 1, 0]]), torch.tensor([[1, 0, 0, 0]]))
    torch.nn.functional.cross_entropy(logits[0], torch.tensor([0, 1, 2, -100])).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())
    assert (hidden.grad[0, 3] == 0).all()
    assert hidden.grad.isfinite().all()


def test_many_such_heads_in_one_pass():
    torch.manual_seed(0)
    heads = [MarkedTokenHead(8, 3, width=4, dropout=0.0, between=2).eval() for _ in range(3)]
    hidden, mask = torch.randn(3, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 1, 1, 1, 1]])
    marks = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    one_by_one = [head(hidden[[n]], mask[[n]], marks[[n]])[0] for n, head in enumerate(heads)]
    with torch.inference_mode():
        torch.testing.assert_close(Stack(heads)(hidden, mask, marks), torch.stack(one_by_one))
