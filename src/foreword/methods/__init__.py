"""Ways to adapt a backbone. `METHODS` is the one table; nothing registers itself."""

from foreword.methods.base import (
    Blueprint,
    Carrier,
    FoldedPrompt,
    Host,
    Method,
    PromptEncoder,
    attach,
    check_changes,
    fold,
    single,
)
from foreword.methods.baselines.adapter import Adapter
from foreword.methods.baselines.bitfit import BitFit
from foreword.methods.baselines.fine_tuning import FineTuning
from foreword.methods.baselines.head_only import HeadOnly
from foreword.methods.baselines.ia3 import IA3
from foreword.methods.baselines.ln_tuning import LNTuning
from foreword.methods.baselines.lora import LoRA
from foreword.methods.combined import Combined
from foreword.methods.composition import average, stack
from foreword.methods.layer_deltas import LayerDeltas
from foreword.methods.mixture import MixtureOfPrompts
from foreword.methods.p_tuning import PTuning
from foreword.methods.prefix_tuning import PrefixTuning
from foreword.methods.prompt_tuning import PromptTuning
from foreword.methods.ptuning_v2 import PTuningV2
from foreword.methods.ssf import SSF
from foreword.methods.warp import WARP

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        PTuningV2,
        PrefixTuning,
        PromptTuning,
        PTuning,
        LayerDeltas,
        WARP,
        SSF,
        FineTuning,
        BitFit,
        LNTuning,
        LoRA,
        IA3,
        Adapter,
        HeadOnly,
        Combined,
        MixtureOfPrompts,
    )
}
Combined.table = MixtureOfPrompts.table = METHODS

__all__ = [
    "IA3",
    "METHODS",
    "SSF",
    "WARP",
    "Adapter",
    "BitFit",
    "Blueprint",
    "Carrier",
    "Combined",
    "FineTuning",
    "FoldedPrompt",
    "HeadOnly",
    "Host",
    "LNTuning",
    "LayerDeltas",
    "LoRA",
    "Method",
    "MixtureOfPrompts",
    "PTuning",
    "PTuningV2",
    "PrefixTuning",
    "PromptEncoder",
    "PromptTuning",
    "attach",
    "average",
    "check_changes",
    "fold",
    "single",
    "stack",
]
