"""What holds for all tests: one thread, no network, and no clock that could fail a test."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's client
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch
from hypothesis import settings

from foreword.backbones import FAMILIES, Backbone
from tiny import tiny_backbone

torch.set_num_threads(1)
if torch.accelerator.is_available():  # what tests compute beside it is on the CPU; test_on_gpu.py is for the rest
    os.environ.setdefault("ACCELERATE_USE_CPU", "true")
settings.register_profile("foreword", deadline=None, derandomize=True)
settings.load_profile("foreword")


@pytest.fixture
def backbone() -> Backbone:
    """A fresh tiny BERT."""
    return tiny_backbone("bert")


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    """Every supported family in turn."""
    return str(request.param)


@pytest.fixture(params=[name for name in sorted(FAMILIES) if FAMILIES[name].kind != "image"])
def text_family(request: pytest.FixtureRequest) -> str:
    """Every family that reads text in turn."""
    return str(request.param)


@pytest.fixture(params=[name for name in sorted(FAMILIES) if FAMILIES[name].kind == "encoder"])
def encoder_family(request: pytest.FixtureRequest) -> str:
    """Every family of encoders in turn."""
    return str(request.param)
