"""Scores of classification: one label per item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sklearn.metrics import f1_score

from foreword.metrics.scores import Scores, check_items, ratio


def classification_scores(gold: Sequence[str], predicted: Sequence[str | None]) -> Scores:
    """Accuracy (the main value), macro F1, and what always giving one class would reach.

    Values, all fractions in [0, 1]:

    * ``accuracy``: share of items with the right label.
    * ``macro_f1``: unweighted mean of the F1 of each class that occurs in ``gold`` or ``predicted``
      (``sklearn.metrics.f1_score``, ``average="macro"``); a class never hit has 0.
    * ``most_frequent_share``: accuracy of always predicting the most frequent class of ``gold``.

    Counts: ``items`` and ``correct``, and for each class ``gold/CLASS``, ``predicted/CLASS`` and
    ``correct/CLASS``.

    Args:
        gold: one label per item.
        predicted: one per item; None for an answer that is no label, which is wrong.

    Raises:
        ValueError: there are no items, or the lengths differ.
    """
    check_items(gold, predicted)
    right = [label for label, guess in zip(gold, predicted, strict=True) if label == guess]
    given = [label for label in predicted if label is not None]
    per_class = {"gold": Counter(gold), "predicted": Counter(given), "correct": Counter(right)}
    classes = sorted({*gold, *given})
    macro = f1_score(list(gold), [label or "" for label in predicted], labels=classes, average="macro", zero_division=0)
    return Scores(
        values={
            "accuracy": ratio(len(right), len(gold)),
            "macro_f1": float(macro),
            "most_frequent_share": ratio(max(per_class["gold"].values()), len(gold)),
        },
        counts={"items": len(gold), "correct": len(right)}
        | {f"{kind}/{label}": count[label] for label in classes for kind, count in per_class.items()},
        main="accuracy",
    )
