"""Ways to adapt a backbone. `METHODS` is the one table; nothing registers itself."""

from foreword.methods.base import Blueprint, FoldedPrompt, Host, Method, PromptEncoder, fold
from foreword.methods.fine_tuning import FineTuning
from foreword.methods.head_only import HeadOnly
from foreword.methods.ptuning_v2 import PTuningV2

METHODS: dict[str, type[Method]] = {method.name: method for method in (PTuningV2, FineTuning, HeadOnly)}

__all__ = [
    "METHODS",
    "Blueprint",
    "FineTuning",
    "FoldedPrompt",
    "HeadOnly",
    "Host",
    "Method",
    "PTuningV2",
    "PromptEncoder",
    "fold",
]
