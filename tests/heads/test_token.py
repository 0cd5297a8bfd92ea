from __future__ import annotations

import pytest
import torch

from foreword.heads import TokenHead


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_softmax_over_positions_sees_padding(dtype):
    torch.manual_seed(0)
    head = TokenHead(8, 2, dropout=0.0).to(dtype)
    hidden, mask = torch.randn(2, 5, 8, dtype=dtype), torch.tensor([[1, 1, 1, 0, 0], [1] * 5])
    logits = head(hidden, mask)
    expected = (hidden @ head.linear.weight.T + head.linear.bias)[:1, :3].float().softmax(1)
    shares = logits.float().softmax(1)
    torch.testing.assert_close(shares[:1, :3], expected, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-3)
    assert (shares[0, 3:] == 0).all()
    assert logits.isfinite().all()


def test_padding_gets_no_gradient_and_makes_no_nan():
    head = TokenHead(8, 3, dropout=0.0)
    hidden = torch.randn(1, 4, 8, requires_grad=True)
    logits = head(hidden, torch.tensor([[1, 1, 0, 0]]))
    torch.nn.functional.cross_entropy(logits[0], torch.tensor([0, 1, -100, -100])).backward()
    assert (hidden.grad[0, 2:] == 0).all()
    assert (hidden.grad[0, :2] != 0).any()
    assert hidden.grad.isfinite().all()
