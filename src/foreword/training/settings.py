"""How a model is trained: the recipe's ``[training]`` table. Defaults live here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from foreword.caching import BUDGET, size_in_bytes

AT_ONCE_ON_A_CPU = 2048
"""Positions, padding included: with more, a step on a CPU is no faster and takes more memory (docs/log.md)."""
Probability = Field(default=0.0, ge=0, lt=1)


def _bytes(value: Any) -> Any:
    return size_in_bytes(value) if isinstance(value, str) else value


class TrainingSettings(BaseModel):
    """Settings of one training run."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    epochs: PositiveInt = 20
    """Passes over the training data."""
    batch_size: PositiveInt = 16
    """Rows per step (per accumulation part, if accumulated), of all processes together where several train a run."""
    batch_tokens: PositiveInt | None = None
    """Instead of batch_size rows: as many rows of similar length as fit into so many positions, padding included. A row
    longer than that is a batch by itself. Prompts, and texts to be written, are not counted."""
    accumulation_steps: PositiveInt = 1
    """Parts whose gradients are added up before one step of the optimizer."""
    tokens_at_once: PositiveInt | None = None
    """Positions, padding included, beyond which a batch is computed in pieces whose gradients are added up: the same
    step in less memory. When left out: 2,048 on a CPU, which is no faster with more; all of a batch on a GPU."""
    max_length: PositiveInt | None = None
    """Most tokens of one row; the backbone's own limit when left out."""
    learning_rate: PositiveFloat | None = None
    """Of the prompt, or of the backbone when fine-tuning. The method's own default when left out."""
    head_learning_rate: PositiveFloat = 1e-3
    """Of the head. Fine-tuning trains the head at this rate too."""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's decoupled decay, for the backbone's matrices and the head; prompts are never decayed."""
    schedule: Literal["linear", "constant", "cosine", "exponential"] = "linear"
    """How the rate falls after warmup; 'exponential' multiplies by exponential_decay once per epoch."""
    exponential_decay: float = Field(default=0.95, gt=0, le=1)
    """Factor per epoch of the exponential schedule (0.95 in the code of P-Tuning v2)."""
    warmup_ratio: float = Field(default=0.06, ge=0, lt=1)
    """Share of all steps during which the rate rises from zero."""
    max_grad_norm: NonNegativeFloat = 1.0
    """Gradients are scaled down to this norm; 0 leaves them as they are."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 computes in bfloat16 where that is safe; what is trained stays float32."""
    backbone_dropout: float = Probability
    """Dropout of hidden states inside the backbone while training, also when it is frozen."""
    attention_dropout: float = Probability
    """Dropout of attention weights while training. Costs speed, on a GPU much."""
    evaluate_every_steps: PositiveInt | None = None
    """Evaluate on dev every so many steps; each epoch when left out."""
    early_stopping_patience: PositiveInt | None = None
    """Stop after so many evaluations without a better dev score."""
    start_from: str | None = None
    """Begin with the prompt of this artifact (or run folder) instead of a fresh one. With the same [method], all that
    it trains is taken over as it was."""
    start_head: bool = False
    """Take over that artifact's head as well, which must be of the same task and labels."""
    seed: NonNegativeInt = 11
    """Of initialization, dropout and order."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    trunk_cache: Literal["memory", "disk", "off"] | None = None
    """Keep what the layers below all that is trained make of a text, so that they run once per text: in memory, or on
    disk for all runs of this user. Dropout inside the backbone then acts above them only. When left out: memory, where
    there are such layers and no such dropout."""
    trunk_cache_bytes: Annotated[PositiveInt, BeforeValidator(_bytes)] = BUDGET
    """Most bytes of it, or a text such as '500MB'."""
    tensorboard: bool = False
    """Also write the log for TensorBoard (pip install 'foreword[tensorboard]')."""

    def most_tokens(self, device: torch.device) -> int | None:
        """Positions of a batch that a device computes at once; None for all of them."""
        return self.tokens_at_once or (AT_ONCE_ON_A_CPU if device.type == "cpu" else None)

    @field_validator("start_head")
    @classmethod
    def _needs_an_artifact(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "start_from" in info.data and info.data["start_from"] is None:
            raise ValueError("there is no artifact to take a head from; set training.start_from")
        return value

    @field_validator("start_from", mode="before")
    @classmethod
    def _path_as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value
