"""Where a backbone computes when nobody says so, and what is said of a device that is not there."""

from __future__ import annotations

import pytest
import torch

import foreword as fw
from foreword.backbones import device_named, may_use_gpu
from foreword.errors import BackboneError
from tiny_artifacts import tiny_artifact


class Machine:
    """A machine with so many GPUs, as torch describes it."""

    def __init__(self, monkeypatch, gpus: int) -> None:
        found = torch.device("cuda") if gpus else None
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: found)
        monkeypatch.setattr(torch.accelerator, "device_count", lambda: gpus)
        monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)


def test_the_gpu_where_there_is_one(monkeypatch):
    Machine(monkeypatch, gpus=1)
    assert device_named() == torch.device("cuda")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert not may_use_gpu()
    assert device_named() == torch.device("cpu")
    assert device_named("cuda:0") == torch.device("cuda", 0)  # who names it gets it


def test_the_cpu_where_there_is_none(monkeypatch):
    Machine(monkeypatch, gpus=0)
    assert device_named() == torch.device("cpu")


def test_what_is_rounded_to_int8_stays_on_the_cpu(monkeypatch):
    Machine(monkeypatch, gpus=1)
    assert device_named(quantization="int8") == torch.device("cpu")
    assert device_named(quantization="bitsandbytes-4bit") == torch.device("cuda")


@pytest.mark.parametrize("name", ["cuda:2", "gpu", "mps", "meta", "", " cpu", "cuda:-1"])
def test_a_device_that_is_not_there(monkeypatch, name):
    Machine(monkeypatch, gpus=2)
    with pytest.raises(BackboneError, match=rf"device '{name}': this machine has cpu, cuda, cuda:0, cuda:1$"):
        device_named(name)


def test_a_predictor_says_so_before_it_loads(monkeypatch):
    artifact = tiny_artifact()
    Machine(monkeypatch, gpus=0)
    with pytest.raises(BackboneError, match=r"device 'cuda': this machine has cpu$"):
        fw.load(artifact, device="cuda")
    assert fw.load(artifact, device="cpu").backbone.device == torch.device("cpu")
