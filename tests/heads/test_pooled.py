from __future__ import annotations

import pytest
import torch

from foreword.heads import PooledHead
from foreword.tasks import Classification

ROWS = [3, 1, 5]
"""Real tokens of each row."""


def head(pooling, hidden_layer=False):
    torch.manual_seed(0)
    return PooledHead(8, 3, pooling=pooling, hidden_layer=hidden_layer, dropout=0.0)


def batch(side):
    """Random states, and the mask of rows padded on one side; padding is far off, so that it shows."""
    mask = torch.zeros(len(ROWS), 5, dtype=torch.long)
    for row, length in zip(mask, ROWS, strict=True):
        row[slice(0, length) if side == "right" else slice(5 - length, 5)] = 1
    hidden = torch.randn(*mask.shape, 8, generator=torch.Generator().manual_seed(1))
    return hidden.masked_fill(~mask.bool()[:, :, None], 1e4), mask


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("hidden_layer", [False, True])
def test_last_reads_the_last_real_token(side, hidden_layer):
    hidden, mask = batch(side)
    model = head("last", hidden_layer)
    expected = torch.stack([model.layers(states[row.bool()][-1]) for states, row in zip(hidden, mask, strict=True)])
    torch.testing.assert_close(model(hidden, mask), expected)


@pytest.mark.parametrize("side", ["right", "left"])
def test_mean_reads_every_real_token_alike(side):
    hidden, mask = batch(side)
    model = head("mean")
    expected = torch.stack([model.layers(states[row.bool()].mean(0)) for states, row in zip(hidden, mask, strict=True)])
    torch.testing.assert_close(model(hidden, mask), expected, rtol=1e-4, atol=1e-4)


def test_first_reads_the_first_token():
    hidden, mask = batch("right")
    model = head("first")
    torch.testing.assert_close(model(hidden, mask), model.layers(hidden[:, 0]))


@pytest.mark.parametrize("dtype", [torch.long, torch.bool, torch.float32])
def test_the_type_of_the_mask_makes_no_difference(dtype):
    hidden, mask = batch("left")
    model = head("last")
    assert torch.equal(model(hidden, mask.to(dtype)), model(hidden, mask))


def test_only_the_token_that_is_read_gets_a_gradient():
    hidden, mask = batch("right")
    hidden.requires_grad_()
    head("last")(hidden, mask).sum().backward()
    touched = (hidden.grad != 0).any(-1)
    assert touched.nonzero().tolist() == [[row, length - 1] for row, length in enumerate(ROWS)]


def test_the_task_hands_its_pooling_to_the_head():
    task = Classification(labels=("a", "b"), pooling="last")
    assert task.build_head(8).pooling == "last"


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="'mean', 'first' or 'last'"):
        Classification(labels=("a", "b"), pooling="middle")
