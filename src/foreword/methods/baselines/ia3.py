"""(IA)^3: the baseline that rescales what some projections give, or are given, by trained vectors.

Source: Liu et al. 2022, 'Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
In-Context Learning', section 3.3. The layers are those of HF PEFT, an extra (``pip install
'foreword[peft]'``); the defaults are PEFT's tables by model family. In BERT and its kin these also
rescale what the output projection of attention is given, which the paper does not.
"""

from __future__ import annotations

from typing import ClassVar

from foreword.attachment import Attachment
from foreword.methods.base import Carrier, Method
from foreword.methods.baselines.lora import (
    Endings,
    Targets,
    are_transposed,
    find_targets,
    import_peft,
    put_layers,
    shell_name,
)

# As transformers calls them in families that PEFT's tables leave out.
_KEY_VALUE: Endings = (("key", "value"), ("k_proj", "v_proj"), ("k_lin", "v_lin"), ("k", "v"), ("Wqkv",))
_FEEDFORWARD: Endings = (("ffn_output",), ("output.dense",), ("fc2",), ("lin2",), ("down_proj",), ("wo",), ("mlp.Wo",))


class IA3(Method):
    """Settings of (IA)^3."""

    name: ClassVar[str] = "ia3"
    summary: ClassVar[str] = "baseline: rescaled keys, values and activations (Liu et al. 2022; needs foreword[peft])"

    targets: Targets = "default"
    """Endings of module names whose output is rescaled, such as ['key', 'value']; 'default': PEFT's for the family."""
    feedforward: Targets = "default"
    """Endings of module names whose input is rescaled instead, such as ['output.dense']; whether in targets or not."""

    @property
    def attaches(self) -> bool:
        """A vector per target."""
        return True

    def attach(self, backbone: Carrier, attachment: Attachment) -> None:
        """PEFT's (IA)^3 layers at every target, all factors 1."""
        peft = import_peft(self.name)
        family, tables = backbone.family, peft.utils
        known = tables.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(family, ())
        inputs = find_targets(backbone, self.feedforward, (known, *_FEEDFORWARD), "feedforward")
        known = tables.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(family, ())
        outputs = find_targets(backbone, self.targets, (known, *_KEY_VALUE))
        places = {**outputs, **inputs}
        config = peft.IA3Config(
            target_modules=".+",
            feedforward_modules=[shell_name(name) for name in inputs],
            fan_in_fan_out=are_transposed(places),
        )
        put_layers(peft, config, places, attachment)

    @property
    def default_learning_rate(self) -> float:
        """The paper's (section 3.3)."""
        return 3e-3
