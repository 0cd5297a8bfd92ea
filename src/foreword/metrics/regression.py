"""Scores of regression: one number per item."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from foreword.metrics.scores import Scores, check_items


def regression_scores(gold: Sequence[float], predicted: Sequence[float]) -> Scores:
    """Pearson's and Spearman's correlation, and their mean (the main value), as GLUE scores STS-B.

    Values, in [-1, 1]: ``pearson`` (``scipy.stats.pearsonr``), ``spearman`` (``scipy.stats.spearmanr``, equal
    numbers share their mean rank), and ``pearson_and_spearman``, their mean. A side that is all one number has no
    correlation; it counts as 0.

    Measures: ``mean_squared_error``, in squared units of the gold numbers. Counts: ``items``.

    Raises:
        ValueError: there are no items, or the lengths differ.
    """
    from scipy.stats import pearsonr, spearmanr  # noqa: PLC0415  whoever only answers need not wait for it

    check_items(gold, predicted)
    wanted, found = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    pearson, spearman = _correlation(pearsonr, wanted, found), _correlation(spearmanr, wanted, found)
    return Scores(
        values={"pearson": pearson, "spearman": spearman, "pearson_and_spearman": (pearson + spearman) / 2},
        counts={"items": len(gold)},
        main="pearson_and_spearman",
        measures={"mean_squared_error": float(np.mean((wanted - found) ** 2))},
    )


def _correlation(correlate: Callable[..., Any], gold: Any, predicted: Any) -> float:
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:
        return 0.0
    value = float(correlate(gold, predicted).statistic)
    return 0.0 if math.isnan(value) else min(max(value, -1.0), 1.0)  # rounding goes a little beyond 1
