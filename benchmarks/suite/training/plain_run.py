"""Everyone else: a plain loop of the same parts around a model of transformers, PEFT or `adapters`.

Models are in training mode with their checkpoint's dropout, as their libraries leave them. This file is used in the
environment of `adapters` too, whose transformers is not ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from suite.worker import Turns

RATE, NORM = 1e-4, 1.0


def classifier(job: Mapping[str, Any], turns: Turns, **config: float) -> nn.Module:
    """The pretrained model with a fresh head of two labels."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = AutoModelForSequenceClassification.from_pretrained(job["folder"], num_labels=2, **config)
    model = model.to(job["device"])
    turns.loaded(model)
    return model


def fine_tuning(job: Mapping[str, Any], turns: Turns, *, dropout: float | None = None) -> nn.Module:
    """All weights, with the checkpoint's dropout or another."""
    chosen = {} if dropout is None else {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return classifier(job, turns, **chosen)


def peft(job: Mapping[str, Any], turns: Turns, *, config: str, **options: Any) -> nn.Module:
    """What PEFT makes of one of its configurations."""
    import peft as library  # noqa: PLC0415  not everywhere

    found: nn.Module = library.get_peft_model(
        classifier(job, turns), getattr(library, config)(task_type="SEQ_CLS", **options)
    )
    return found


def adapters(job: Mapping[str, Any], turns: Turns, **options: Any) -> nn.Module:
    """Prefix tuning of AdapterHub."""
    import adapters as library  # noqa: PLC0415  not everywhere

    model = classifier(job, turns)
    library.init(model)
    model.add_adapter("one", config=library.PrefixTuningConfig(**options))
    model.train_adapter("one")
    return model


MODELS: Mapping[str, Callable[..., nn.Module]] = {one.__name__: one for one in (fine_tuning, peft, adapters)}


def run(job: Mapping[str, Any], turns: Turns) -> None:
    """Train on one batch, over and over, until no more steps are wanted; ``job`` as in `foreword_run.run`."""
    options = dict(job["options"])
    model = MODELS[options.pop("model")](job, turns, **options).to(job["device"]).train()
    tokenizer = AutoTokenizer.from_pretrained(job["folder"])
    rows = [{"input_ids": ids} for ids in tokenizer(job["texts"])["input_ids"]]
    labels = torch.arange(len(rows)) % 2
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)
    while True:
        turns.next()
        batch = tokenizer.pad(rows, return_tensors="pt").to(job["device"])
        with torch.autocast(job["device"], torch.bfloat16, enabled=job["precision"] == "bf16"):
            loss = model(**batch, labels=labels.to(job["device"])).loss
        loss.backward()
        loss.item()
        nn.utils.clip_grad_norm_(trained, NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
