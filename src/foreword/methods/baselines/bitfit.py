"""BitFit: the baseline that trains the bias terms of the backbone and nothing else of it.

Source: Ben Zaken et al. 2022, 'BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based
Masked Language-models', section 3. Biases of normalization layers are bias terms too, as in the
authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from foreword.errors import MethodError
from foreword.methods.base import Method


class BitFit(Method):
    """Settings of BitFit. The biases are trained in place, so each model needs a backbone of its own."""

    name: ClassVar[str] = "bitfit"
    summary: ClassVar[str] = "baseline: train the backbone's bias terms (Ben Zaken et al. 2022)"

    modules: Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all"
    """Whose biases: 'all', or endings of module names, as ['query', 'intermediate.dense'] of section 3 in BERT."""

    @property
    def tunes_backbone(self) -> bool:
        """Its bias terms."""
        return True

    def tuned(self, names: Sequence[str]) -> frozenset[str]:
        """Names that end in 'bias', of the chosen modules."""
        biases = [name for name in names if name.endswith((".bias", "_bias"))]  # DeBERTa has a 'q_bias' apart
        if not biases:
            raise MethodError("the backbone has no bias terms for bitfit to train, as T5 and LLaMA have none")
        if self.modules == "all":
            return frozenset(biases)
        owner = {name: name.rpartition(".")[0] for name in biases}
        chosen = {end: [name for name in biases if f".{owner[name]}".endswith(f".{end}")] for end in self.modules}
        lost = [ending for ending, found in chosen.items() if not found]
        if lost:
            known = ", ".join(sorted({module.rpartition(".")[2] for module in owner.values()}))
            raise MethodError(f"method.modules: no module with a bias is called '{lost[0]}' here. There are: {known}")
        return frozenset(name for found in chosen.values() for name in found)

    @property
    def default_learning_rate(self) -> float:
        """The upper end of the paper's range for BERT (appendix A.2)."""
        return 1e-3
