"""Likeness to a question, beside a linear layer on every token."""

from __future__ import annotations

import math

import pytest
import torch

from foreword.heads import MatchingHead

MASK = torch.tensor([[1] * 12, [1] * 9 + [0] * 3, [0] * 2 + [1] * 10])
MARKS = torch.tensor([[0, 1, 1, 1, *[0] * 8], [0, 1, 0, 0, *[0] * 8], [0, 0, 0, 1, 1, *[0] * 7]])
STATES, SIZE = 2, 4


def states(dtype=torch.float64):
    hidden = torch.randn(3, 12, STATES * SIZE, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return hidden.masked_fill(~MASK.bool()[:, :, None], 1e4)  # padding is far off, so that it shows


def head_of(dtype=torch.float64):
    torch.manual_seed(0)
    return MatchingHead(SIZE, 2, dropout=0.0, states=STATES).to(dtype)


def cosine(one, other):
    return (one @ other / (one.norm() * other.norm())).item()


def by_hand(hidden, mask, marks):
    """Likenesses of one row, token by token."""
    context = [i for i in range(len(mask)) if mask[i] and marks[i] != 1]
    question = [i for i in range(len(mask)) if marks[i] == 1]
    found = torch.zeros(len(mask), 3 * STATES, dtype=torch.float64)
    for state in range(STATES):
        own = hidden[:, state * SIZE : (state + 1) * SIZE]
        nearest = {i: max(cosine(own[i], own[j]) for j in question) for i in context}
        mean = sum(nearest.values()) / len(context)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in nearest.values()) / len(context))
        scaled = {i: (value - mean) / deviation for i, value in nearest.items()}
        for place, reach in enumerate((0, 4, 15)):
            for i in context:
                near = [value for j, value in scaled.items() if abs(i - j) <= reach]
                found[i, place * STATES + state] = sum(near) / len(near)
    return found


def test_each_row_by_hand():
    head, hidden = head_of(), states()
    logits = head(hidden, MASK, MARKS)
    for row in range(3):
        likeness = by_hand(hidden[row], MASK[row], MARKS[row])
        inner = likeness @ head.matching.weight.T + head.matching.bias
        gelu = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        expected = hidden[row] @ head.linear.weight.T + head.linear.bias + gelu @ head.out.weight.T
        real = MASK[row].bool()
        torch.testing.assert_close(logits[row][real], expected[real], rtol=1e-4, atol=1e-4)
        assert (logits[row][~real] == torch.finfo(torch.float64).min).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_does_not_depend_on_its_padding(dtype):
    head, hidden = head_of(dtype), states(dtype)
    alone = head(hidden[1:2, :9], MASK[1:2, :9], MARKS[1:2, :9])
    exactness = {} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(head(hidden, MASK, MARKS)[1:2, :9], alone, **exactness)


def test_states_of_another_size_match_alike():
    head, hidden = head_of(), states()
    torch.testing.assert_close(head.likeness(3 * hidden, MASK, MARKS), head.likeness(hidden, MASK, MARKS))


def test_a_row_without_a_question_has_no_likeness():
    head, hidden = head_of(), states()
    marks = torch.zeros_like(MARKS)
    assert (head.likeness(hidden, MASK, marks) == 0).all()
    assert head(hidden, MASK, marks)[MASK.bool()].isfinite().all()


def test_rows_without_marks_are_no_input():
    with pytest.raises(TypeError, match="compares with marked tokens"):
        head_of()(states(), MASK)


def test_every_weight_gets_a_gradient_and_states_that_of_the_linear_layer():
    head, hidden = head_of(), states().requires_grad_()
    logits = head(hidden, MASK, MARKS)[:, :, 0]
    torch.nn.functional.cross_entropy(logits, torch.tensor([5, 6, 7])).backward()
    assert all(parameter.grad.abs().sum() > 0 for name, parameter in head.named_parameters() if name != "linear.bias")
    per_logit = logits.detach().softmax(1) - torch.nn.functional.one_hot(torch.tensor([5, 6, 7]), 12)
    torch.testing.assert_close(hidden.grad, per_logit[:, :, None] / 3 * head.linear.weight[0])
