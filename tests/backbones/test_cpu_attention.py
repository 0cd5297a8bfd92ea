"""Attention in chunks against attention written out in float64, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from foreword.backbones import cpu_attention
from foreword.backbones.cpu_attention import attend_in_chunks, suits, to_be_added

ROWS, HEADS, LENGTH, KEYS, SIZE = 5, 4, 6, 9, 8
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-2}


def slowly(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, factor: Tensor | None = None) -> Tensor:
    """Softmax of products, position by position, ``(B, T, H, E)``; ``factor``: of every weight."""
    out = []
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            read = head // (query.shape[1] // key.shape[1])
            products = query[row, head] @ key[row, read].T / SIZE**0.5
            products = products.masked_fill(~visible[row, 0], -torch.inf)
            weights = torch.exp(products - products.max(-1, keepdim=True).values)
            weights = weights / weights.sum(-1, keepdim=True)
            out.append((weights if factor is None else weights * factor[row, head]) @ value[row, read])
    return torch.stack(out).view(query.shape).transpose(1, 2)


def given(dtype: torch.dtype, heads: int = HEADS) -> list[Tensor]:
    """Query, key, value, and the gradient that comes back."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(ROWS, HEADS, LENGTH, SIZE), *[(ROWS, heads, KEYS, SIZE)] * 2, (ROWS, LENGTH, HEADS, SIZE)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def visible(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    seen = torch.rand(ROWS, 1, LENGTH if kind == "each" else 1, KEYS, generator=generator) > 0.4
    seen[..., 0] = True
    return seen.expand(-1, -1, LENGTH, -1) if kind != "none" else torch.ones(ROWS, 1, LENGTH, KEYS, dtype=torch.bool)


def with_gradients(run: object, tensors: list[Tensor], back: Tensor) -> list[Tensor]:
    leaves = [one.detach().clone().requires_grad_() for one in tensors]
    out = run(*leaves)  # type: ignore[operator]
    out.backward(back)
    return [out.detach(), *[leaf.grad for leaf in leaves]]  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", ["none", "row", "each"])
@pytest.mark.parametrize("heads", [HEADS, 2])
@pytest.mark.parametrize("at_once", [1, 2 * 4 * HEADS * LENGTH * KEYS, 2**20])
def test_answers_and_gradients_are_those_of_attention(
    dtype: torch.dtype, mask: str, heads: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "AT_ONCE", at_once)
    *tensors, back = given(dtype, heads)
    seen = visible(mask)
    added = None if mask == "none" else to_be_added(seen, dtype)
    found = with_gradients(lambda q, k, v: attend_in_chunks(q, k, v, added, scaling=None, dropout=0.0), tensors, back)
    wanted = with_gradients(lambda q, k, v: slowly(q, k, v, seen), [one.double() for one in tensors], back.double())
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == dtype
        assert (ours.double() - theirs).abs().max() < TOLERANCE[dtype] * max(1.0, theirs.abs().max().item())


def test_products_in_float32_where_a_machine_has_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_attention, "NATIVE_BFLOAT16", False)
    *tensors, back = given(torch.bfloat16)
    found = with_gradients(lambda q, k, v: attend_in_chunks(q, k, v, None, scaling=None, dropout=0.0), tensors, back)
    wanted = with_gradients(
        lambda q, k, v: slowly(q, k, v, visible("none")), [one.double() for one in tensors], back.double()
    )
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.bfloat16
        # only the results are rounded: a 256th of the largest
        assert (ours.double() - theirs).abs().max() <= theirs.abs().max().item() / 256


def test_what_is_dropped_is_dropped_in_the_backward_pass_too(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Tensor] = []

    def noted(*given: object) -> Tensor:
        drawn.append(original(*given))
        return drawn[-1]

    original = cpu_attention.kept_at_random
    monkeypatch.setattr(cpu_attention, "kept_at_random", noted)
    monkeypatch.setattr(cpu_attention, "AT_ONCE", 2 * 4 * HEADS * LENGTH * KEYS)
    *tensors, back = given(torch.float32)
    seen = visible("each")
    found = with_gradients(
        lambda q, k, v: attend_in_chunks(q, k, v, to_be_added(seen, torch.float32), scaling=None, dropout=0.25),
        tensors,
        back,
    )
    (kept,) = drawn
    assert 0.6 < kept.float().mean() < 0.9
    wanted = with_gradients(
        lambda q, k, v: slowly(q, k, v, seen, kept.double() / 0.75), [one.double() for one in tensors], back.double()
    )
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-6)


def test_only_what_is_asked_for_has_a_gradient() -> None:
    query, key, value, back = given(torch.float32)
    value.requires_grad_()
    attend_in_chunks(query, key, value, None, scaling=None, dropout=0.0).backward(back)
    assert query.grad is None
    assert key.grad is None
    assert value.grad is not None


def test_nothing_is_kept_for_the_backward_pass_but_what_was_given() -> None:
    """Weights of all rows would be far more than queries, keys and values are."""
    query, key, value, _ = given(torch.float32)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        attend_in_chunks(query.requires_grad_(), key, value, None, scaling=None, dropout=0.0)
    assert [one.data_ptr() for one in kept] == [one.data_ptr() for one in (query, key, value)]


def test_a_position_that_may_read_nothing_reads_all_alike() -> None:
    query, key, value, _ = given(torch.float32)
    hidden = to_be_added(torch.zeros(1, 1, LENGTH, KEYS, dtype=torch.bool), torch.float32)
    out = attend_in_chunks(query, key, value, hidden, scaling=None, dropout=0.0)
    torch.testing.assert_close(out, value.mean(2)[:, None].expand(-1, LENGTH, -1, -1))


def test_long_rows_in_float32_and_learned_masks_are_left_to_torch() -> None:
    query, key, *_ = given(torch.float32)
    learned = torch.zeros(1, HEADS, LENGTH, KEYS, requires_grad=True)
    assert suits(query, key, None, 0.0)
    assert not suits(query, key, learned, 0.0)
    long = torch.zeros(1, 12, 256, SIZE)
    assert not suits(long, long, None, 0.0)
    assert suits(long, long, None, 0.1)
    assert suits(long.bfloat16(), long.bfloat16(), None, 0.0)


@pytest.mark.parametrize("at_once", [1, 2 * 4 * HEADS * LENGTH * KEYS])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_queries_that_nobody_asks_for_are_left_out(
    at_once: int, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_attention, "AT_ONCE", at_once)
    drawn: list[Tensor] = []
    original = cpu_attention.kept_at_random
    monkeypatch.setattr(cpu_attention, "kept_at_random", lambda *a: drawn.append(original(*a)) or drawn[-1])
    *tensors, back = given(torch.float32)
    lengths = [6, 5, 2, 1, 3]
    asked = torch.arange(LENGTH) < torch.tensor(lengths)[:, None]
    seen = torch.cat([torch.ones(ROWS, KEYS - LENGTH, dtype=torch.bool), asked], 1)[:, None, None].expand(
        -1, -1, LENGTH, -1
    )
    back = back * asked[:, :, None, None]
    added = to_be_added(seen, torch.float32)
    found = with_gradients(
        lambda q, k, v: attend_in_chunks(q, k, v, added, scaling=None, dropout=dropout, lengths=lengths), tensors, back
    )
    factor = drawn[0].double() / (1 - dropout) if dropout else None
    wanted = with_gradients(
        lambda q, k, v: slowly(q, k, v, seen, factor), [one.double() for one in tensors], back.double()
    )
    for ours, theirs in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(found[0][asked].double(), wanted[0][asked], rtol=1e-5, atol=2e-6)
