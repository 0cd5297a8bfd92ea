"""The probability from which on an answer counts as a yes."""

# ruff: noqa: PLC0415  scikit-learn takes a second that whoever only answers need not wait

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foreword.metrics.scores import check_items

DEFAULT_THRESHOLD = 0.5


def best_threshold(gold: Sequence[bool], probabilities: Sequence[float]) -> float:
    """The threshold of highest F1 of 'yes', where answers of at least that probability are yes.

    It lies half way between two neighbouring probabilities, so that rounding in them changes nothing; of equally
    good ones it is the one nearest to `DEFAULT_THRESHOLD`, which it is too where nothing is a yes.

    Args:
        gold: what each answer should be.
        probabilities: that it is yes, in [0, 1].

    Raises:
        ValueError: there are no answers, or the lengths differ.
    """
    from sklearn.metrics import precision_recall_curve

    check_items(gold, probabilities)
    if not any(gold):
        return DEFAULT_THRESHOLD
    precision, recall, lowest = precision_recall_curve(gold, probabilities)
    precision, recall = precision[:-1], recall[:-1]  # the last are of a threshold that nothing reaches
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    # Every threshold above the next lower probability, and up to the lowest one that counts, is the same.
    below = np.concatenate([[0.0], lowest[:-1]])
    halfway = (below + lowest) / 2
    thresholds = np.where(halfway > below, halfway, lowest)[np.isclose(f1, f1.max(), rtol=1e-12, atol=0)]
    return float(thresholds[np.abs(thresholds - DEFAULT_THRESHOLD).argmin()])
