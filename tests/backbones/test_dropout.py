import pytest
import torch
from torch import nn

from foreword.backbones.dropout import ByteDropout, use_byte_dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_drops_the_share_it_says_and_keeps_the_mean(p):
    torch.manual_seed(0)
    out = ByteDropout(p).train()(torch.ones(400_000))
    dropped = (out == 0).float().mean().item()
    assert dropped == pytest.approx(round(p * 256) / 256, abs=0.004)
    kept = out[out != 0]
    assert kept.unique().tolist() == pytest.approx([256 / (256 - round(p * 256))])
    assert out.mean().item() == pytest.approx(1.0, abs=0.005)


def test_every_place_in_a_word_is_dropped_alike():
    torch.manual_seed(0)
    out = ByteDropout(0.25).train()(torch.ones(80_000, 8))
    by_place = (out == 0).float().mean(0)
    assert by_place.tolist() == pytest.approx([0.25] * 8, abs=0.01)


def test_gradients_flow_where_values_were_kept_only():
    torch.manual_seed(0)
    x = torch.randn(7, 5, requires_grad=True)  # 35 elements: no multiple of a word's eight bytes
    out = ByteDropout(0.5).train()(x)
    out.sum().backward()
    assert torch.equal(x.grad != 0, out != 0)
    assert 0 < (out == 0).sum() < out.numel()


def test_does_nothing_in_evaluation_and_at_zero():
    x = torch.randn(3, 4)
    assert ByteDropout(0.5).eval()(x) is x
    assert ByteDropout(0.0).train()(x) is x


def test_takes_the_place_of_every_dropout_and_of_its_probability():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.4)))
    use_byte_dropout(model)
    found = [module for module in model.modules() if isinstance(module, nn.Dropout | ByteDropout)]
    assert [type(module) for module in found] == [ByteDropout, ByteDropout]
    assert [module.p for module in found] == [0.1, 0.4]


def test_the_same_seed_drops_the_same():
    outs = []
    for _ in range(2):
        torch.manual_seed(5)
        outs.append(ByteDropout(0.5).train()(torch.ones(100)))
    assert torch.equal(*outs)
