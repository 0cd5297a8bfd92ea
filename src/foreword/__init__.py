"""Foreword: adapt one frozen transformer to many tasks with a small foreword of learned vectors each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from foreword.errors import ForewordError

if TYPE_CHECKING:
    from foreword.api import train, train_seeds, train_together
    from foreword.backbones import Backbone, load_backbone
    from foreword.client import Client
    from foreword.inference.engine import Engine
    from foreword.inference.ensemble import Ensemble, load_ensemble
    from foreword.inference.predictor import Predictor, load
    from foreword.methods import (
        IA3,
        SSF,
        WARP,
        Adapter,
        BitFit,
        Combined,
        FineTuning,
        HeadOnly,
        LayerDeltas,
        LNTuning,
        LoRA,
        MixtureOfPrompts,
        PrefixTuning,
        PromptTuning,
        PTuning,
        PTuningV2,
    )
    from foreword.recipes import Recipe, load_recipe, run_recipe
    from foreword.tasks import (
        NER,
        QA,
        SRL,
        Classification,
        Generation,
        MultiLabel,
        MultipleChoice,
        MultiRC,
        Probing,
        ReCoRD,
        Regression,
        SpanClassification,
        TextToText,
    )
    from foreword.training.mixing import Mixing
    from foreword.training.settings import TrainingSettings

__version__ = "0.1.0"

__all__ = [
    "IA3",
    "NER",
    "QA",
    "SRL",
    "SSF",
    "WARP",
    "Adapter",
    "Backbone",
    "BitFit",
    "Classification",
    "Client",
    "Combined",
    "Engine",
    "Ensemble",
    "FineTuning",
    "ForewordError",
    "Generation",
    "HeadOnly",
    "LNTuning",
    "LayerDeltas",
    "LoRA",
    "Mixing",
    "MixtureOfPrompts",
    "MultiLabel",
    "MultiRC",
    "MultipleChoice",
    "PTuning",
    "PTuningV2",
    "Predictor",
    "PrefixTuning",
    "Probing",
    "PromptTuning",
    "ReCoRD",
    "Recipe",
    "Regression",
    "SpanClassification",
    "TextToText",
    "TrainingSettings",
    "load",
    "load_backbone",
    "load_ensemble",
    "load_recipe",
    "run_recipe",
    "train",
    "train_seeds",
    "train_together",
]

_HOMES = {
    "foreword.api": ("train", "train_seeds", "train_together"),
    "foreword.backbones": ("Backbone", "load_backbone"),
    "foreword.client": ("Client",),
    "foreword.inference.engine": ("Engine",),
    "foreword.inference.ensemble": ("Ensemble", "load_ensemble"),
    "foreword.inference.predictor": ("Predictor", "load"),
    "foreword.methods": (
        "Adapter",
        "BitFit",
        "Combined",
        "FineTuning",
        "HeadOnly",
        "IA3",
        "LNTuning",
        "LayerDeltas",
        "LoRA",
        "MixtureOfPrompts",
        "PTuning",
        "PTuningV2",
        "PrefixTuning",
        "PromptTuning",
        "SSF",
        "WARP",
    ),
    "foreword.recipes": ("Recipe", "load_recipe", "run_recipe"),
    "foreword.tasks": (
        "NER",
        "QA",
        "SRL",
        "Classification",
        "Generation",
        "MultiLabel",
        "MultiRC",
        "MultipleChoice",
        "Probing",
        "ReCoRD",
        "Regression",
        "SpanClassification",
        "TextToText",
    ),
    "foreword.training.mixing": ("Mixing",),
    "foreword.training.settings": ("TrainingSettings",),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for, so that `foreword --help` does not wait for torch."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'foreword' has no attribute '{name}'")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
