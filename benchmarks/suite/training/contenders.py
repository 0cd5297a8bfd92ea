"""Who takes part. A contender is a line here; those of one library share a file that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FOREWORD = "suite.training.foreword_run"
PLAIN = "suite.training.plain_run"
SEVERAL = "suite.training.side_by_side_run"


@dataclass(frozen=True, slots=True)
class Contender:
    """A way to train.

    Attributes:
        run: module whose ``run`` trains.
        options: what it is told.
        environment: of `workers.PINNED` that it needs.
    """

    run: str
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None


def foreword(training: Mapping[str, Any] | None = None, /, **method: Any) -> Contender:
    """Settings of `PTuningV2`; ``training``: of the run."""
    return Contender(FOREWORD, {"method": method, "training": dict(training or {})})


def peft(config: str, **options: Any) -> Contender:
    """A configuration of PEFT, as it comes."""
    return Contender(PLAIN, {"model": "peft", "config": config, **options})


CONTENDERS: Mapping[str, Contender] = {
    "fine-tuning": Contender(PLAIN, {"model": "fine_tuning"}),
    "fine-tuning, no dropout": Contender(PLAIN, {"model": "fine_tuning", "dropout": 0.0}),
    "PEFT prefix p=20": peft("PrefixTuningConfig", num_virtual_tokens=20),
    "PEFT prefix p=100, MLP": peft("PrefixTuningConfig", num_virtual_tokens=100, prefix_projection=True),
    "PEFT prompt tuning p=20": peft("PromptTuningConfig", num_virtual_tokens=20),
    "PEFT LoRA r=8": peft("LoraConfig", r=8, target_modules=["query", "value"]),
    "AdapterHub prefix p=20": Contender(PLAIN, {"model": "adapters", "prefix_length": 20, "flat": True}, "adapters"),
    "Foreword p=20": foreword(prompt_length=20),
    "Foreword p=20, batch at once": foreword({"tokens_at_once": 10**6}, prompt_length=20),
    "Foreword p=100": foreword(prompt_length=100),
    "Foreword p=100, MLP": foreword(prompt_length=100, reparameterization="mlp", mlp_hidden=384),
    "Foreword p=20, top third": foreword({"trunk_cache": "off"}, prompt_length=20, layers="top-2"),
    "Foreword p=20, top third, cached": foreword({"trunk_cache": "memory"}, prompt_length=20, layers="top-2"),
    "Foreword p=20, top third, cached, batch at once": foreword(
        {"trunk_cache": "memory", "tokens_at_once": 10**6}, prompt_length=20, layers="top-2"
    ),
}


def several(*, together: bool, top: bool = False) -> Contender:
    """Small runs of Foreword, side by side or one after another, full-depth or with the trunk's output cached."""
    method = {"prompt_length": 20, **({"layers": "top-2"} if top else {})}
    training = {"trunk_cache": "memory" if top else "off"}
    return Contender(SEVERAL, {"together": together, "method": method, "training": training})


SIDE_BY_SIDE: Mapping[str, Contender] = {
    "Foreword p=20, one after another": several(together=False),
    "Foreword p=20, side by side": several(together=True),
    "Foreword p=20, top third, cached, one after another": several(together=False, top=True),
    "Foreword p=20, top third, cached, side by side": several(together=True, top=True),
}
