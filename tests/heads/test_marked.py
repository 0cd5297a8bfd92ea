from __future__ import annotations

import pytest
import torch

from foreword.heads import MarkedTokenHead


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
