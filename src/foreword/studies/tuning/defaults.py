"""What is searched when a recipe does not say: ranges by method, around what papers and our measurements found good.

Sources: Liu et al. 2022, section 3.3 and appendix B (lengths, reparameterization), figure 3 (depth); Li & Liang
2021, sections 5 and 7; Lester et al. 2021, section 3.2; Hu et al. 2022, section 7.2; Houlsby et al. 2019, section
3.1; Ben Zaken et al. 2022, appendix A.2; docs/log.md for rates, starts and gates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

from foreword.methods import Combined, Method
from foreword.recipes.search import Range
from foreword.studies.tuning.space import Dimension, Space

RATE, HEAD_RATE = "training.learning_rate", "training.head_learning_rate"
MLP, DIRECT = ("method.reparameterization", "mlp"), ("method.reparameterization", "direct")
HEAD = Dimension(HEAD_RATE, Range(low=1e-3, high=2e-2, log=True))
BACKBONE_DROPOUT = Dimension("training.backbone_dropout", (0.0, 0.1))
VECTORS = (
    Dimension(RATE, Range(low=1e-3, high=1e-1, log=True)),
    HEAD,
    Dimension("method.prompt_length", (5, 10, 20, 50, 100)),
    Dimension("method.init", ("vocabulary", "uniform")),
    Dimension("method.dropout", (0.0, 0.1)),
    BACKBONE_DROPOUT,
)
AROUND_TEXT = (Dimension(RATE, Range(low=1e-4, high=3e-2, log=True)), HEAD, Dimension("method.dropout", (0.0, 0.1)))


def default_space(method: Method, depth: int) -> Space:
    """What is searched for a method; its learning rates alone where nothing is written down for it.

    Args:
        method: of which the name counts, and for the rates what it says itself.
        depth: how many layers the backbone has.
    """
    if method.name in _SPACES:
        return _SPACES[method.name](depth)
    if isinstance(method, Combined) and method.learning_rates is not None:
        return (Dimension("method.learning_rates", _around(method.learning_rates)), HEAD, BACKBONE_DROPOUT)
    usual = method.default_learning_rate
    return (Dimension(RATE, Range(low=usual / 10, high=usual * 10, log=True)), HEAD)


def _around(rates: Sequence[float]) -> tuple[list[float], ...]:
    """Each rate as it is, a third and three times of it, in all combinations."""
    return tuple([float(f"{rate:.3g}") for rate in each] for each in product(*((r / 3, r, 3 * r) for r in rates)))


def _deep(lengths: Iterable[int], scales: Range) -> Space:
    """Keys and values at every layer: direct ones want rates a hundred times those of an MLP."""
    return (
        Dimension("method.reparameterization", ("direct", "mlp")),
        Dimension(RATE, Range(low=3e-3, high=1e-1, log=True), when=DIRECT),
        Dimension(RATE, Range(low=1e-4, high=1e-2, log=True), when=MLP),
        HEAD,
        Dimension("method.prompt_length", tuple(lengths)),
        Dimension("method.init", ("normal", "vocabulary")),
        Dimension("method.init_scale", scales, when=("method.init", "normal")),
        Dimension("method.dropout", (0.0, 0.1, 0.2)),
        BACKBONE_DROPOUT,
    )


def _ptuning_v2(depth: int) -> Space:
    layers = tuple(dict.fromkeys(["all", *(f"top-{depth // part}" for part in (2, 3) if depth >= part)]))
    return (
        *_deep((8, 16, 32, 64, 100), Range(low=0.02, high=1.0, log=True)),
        *([Dimension("method.layers", layers)] if len(layers) > 1 else []),
        Dimension("method.gate", (False, True)),
    )


def _trained_weights(low: float, high: float) -> Space:
    return (
        Dimension(RATE, Range(low=low, high=high, log=True)),
        Dimension("training.weight_decay", (0.0, 0.01, 0.1)),
        BACKBONE_DROPOUT,
    )


def _beside(low: float, high: float, path: str | None = None, values: tuple[Any, ...] = ()) -> Space:
    """Modules beside those of the backbone."""
    own = () if path is None else (Dimension(path, values),)
    return (Dimension(RATE, Range(low=low, high=high, log=True)), HEAD, *own, BACKBONE_DROPOUT)


_SPACES: dict[str, Callable[[int], Space]] = {
    "ptuning-v2": _ptuning_v2,
    "prefix-tuning": lambda _: _deep((5, 10, 20, 50, 100), Range(low=0.02, high=1.0, log=True)),
    "prompt-tuning": lambda _: VECTORS,
    "layer-deltas": lambda _: VECTORS,
    "p-tuning": lambda _: (*AROUND_TEXT, Dimension("method.reparameterization", ("lstm", "mlp"))),
    "warp": lambda _: (*AROUND_TEXT, Dimension("method.template", ([5, "text", 5], [10, "text", 10]))),
    "ssf": lambda _: _beside(1e-3, 3e-2),
    "fine-tuning": lambda _: _trained_weights(1e-5, 5e-4),
    "bitfit": lambda _: _trained_weights(1e-4, 1e-2),
    "ln-tuning": lambda _: _trained_weights(1e-4, 1e-2),
    "lora": lambda _: _beside(1e-4, 1e-2, "method.r", (2, 4, 8, 16, 32)),
    "ia3": lambda _: _beside(1e-3, 3e-2),
    "adapter": lambda _: _beside(1e-4, 1e-2, "method.bottleneck", (8, 64, 256)),
    "head-only": lambda _: (Dimension(HEAD_RATE, Range(low=1e-3, high=1e-1, log=True)),),
}
"""Method -> dimensions, given the backbone's depth."""
