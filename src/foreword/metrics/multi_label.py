"""Scores of any number of labels per item."""

# ruff: noqa: PLC0415  scikit-learn takes a second that whoever only answers need not wait

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain

import numpy as np

from foreword.metrics.scores import Scores, check_items


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
