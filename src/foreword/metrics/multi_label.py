"""Scores of any number of labels per item, and the threshold above which a label is given."""

# ruff: noqa: PLC0415  scikit-learn takes a second that whoever only answers need not wait

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

import numpy as np

from foreword.metrics.scores import Scores, check_items

DEFAULT_THRESHOLD = 0.5


def label_set_scores(gold: Sequence[Collection[str]], predicted: Sequence[Collection[str]]) -> Scores:
    """Micro F1 (the main value), macro F1 and subset accuracy of sets of labels.

    Values, all fractions in [0, 1], as scikit-learn computes them and 0 where they divide by 0:

    * ``micro_f1``: F1 over all pairs of an item and a label.
    * ``macro_f1``: unweighted mean of the F1 of each label that occurs in ``gold`` or ``predicted``.
    * ``subset_accuracy``: share of items with exactly the right labels.

    Counts: ``items``, ``gold``, ``predicted`` and ``correct``, and the last three for each label, as in
    ``gold/LABEL``. A label given twice to an item counts once.

    Raises:
        ValueError: there are no items, or the lengths differ.
    """
    from sklearn.metrics import accuracy_score, f1_score

    check_items(gold, predicted)
    wanted, found = list(map(set, gold)), list(map(set, predicted))
    both = [one & other for one, other in zip(wanted, found, strict=True)]
    counters = {
        kind: Counter(chain.from_iterable(sets))
        for kind, sets in (("gold", wanted), ("predicted", found), ("correct", both))
    }
    labels = sorted(counters["gold"].keys() | counters["predicted"].keys())
    # Two columns that nobody has: with fewer than two, scikit-learn takes a table for something else.
    table, guess = (
        np.array([[*(label in labels_of for label in labels), False, False] for labels_of in sets])
        for sets in (wanted, found)
    )
    macro = f1_score(table, guess, labels=range(len(labels)), average="macro", zero_division=0) if labels else 0.0
    return Scores(
        values={
            "micro_f1": float(f1_score(table, guess, average="micro", zero_division=0)),
            "macro_f1": float(macro),
            "subset_accuracy": float(accuracy_score(table, guess)),
        },
        counts={"items": len(wanted)}
        | {kind: count.total() for kind, count in counters.items()}
        | {f"{kind}/{label}": count[label] for label in labels for kind, count in counters.items()},
        main="micro_f1",
    )


def best_threshold(gold: Sequence[Collection[str]], probabilities: Sequence[Mapping[str, float]]) -> float:
    """The threshold of highest micro F1, where labels of at least that probability are given.

    It lies half way between two neighbouring probabilities, so that rounding in them changes nothing; of equally
    good ones it is the one nearest to `DEFAULT_THRESHOLD`, which it is too where no item has a label.

    Args:
        gold: the labels of each item.
        probabilities: label -> probability, in [0, 1], of all labels of each item.

    Raises:
        ValueError: there are no items, or the lengths differ.
    """
    from sklearn.metrics import precision_recall_curve

    check_items(gold, probabilities)
    right = [label in labels for labels, sure in zip(gold, probabilities, strict=True) for label in sure]
    if not any(right):
        return DEFAULT_THRESHOLD
    found = np.array([p for sure in probabilities for p in sure.values()])
    precision, recall, lowest = precision_recall_curve(right, found)
    precision, recall = precision[:-1], recall[:-1]  # the last are of a threshold that nothing reaches
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    # Every threshold above the next lower probability, and up to the lowest one that counts, is the same.
    below = np.concatenate([[0.0], lowest[:-1]])
    halfway = (below + lowest) / 2
    thresholds = np.where(halfway > below, halfway, lowest)[np.isclose(f1, f1.max(), rtol=1e-12, atol=0)]
    return float(thresholds[np.abs(thresholds - DEFAULT_THRESHOLD).argmin()])
