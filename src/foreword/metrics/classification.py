"""Scores of classification: one label per item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Literal

from foreword.metrics.scores import Scores, check_items, ratio

Main = Literal["accuracy", "f1", "macro_f1", "accuracy_and_f1", "accuracy_and_macro_f1"]
"""GLUE has 'accuracy_and_f1' for MRPC and QQP, SuperGLUE 'accuracy_and_macro_f1' for CB."""


def classification_scores(
    gold: Sequence[str], predicted: Sequence[str | None], *, positive: str | None = None, main: Main = "accuracy"
) -> Scores:
    """Accuracy, F1, and what always giving one class would reach.

    Values, all fractions in [0, 1]:

    * ``accuracy``: share of items with the right label.
    * ``macro_f1``: unweighted mean of the F1 of each class that occurs in ``gold`` or ``predicted``
      (``sklearn.metrics.f1_score``, ``average="macro"``); a class never hit has 0.
    * ``f1``: that of the class ``positive`` alone, where one is given; 0 where it is never hit.
    * ``most_frequent_share``: accuracy of always predicting the most frequent class of ``gold``.
    * ``accuracy_and_f1``, ``accuracy_and_macro_f1``: the mean of the two, where it is ``main``.

    Counts: ``items`` and ``correct``, and for each class ``gold/CLASS``, ``predicted/CLASS`` and
    ``correct/CLASS``.

    Args:
        gold: one label per item.
        predicted: one per item; None for an answer that is no label, which is wrong.
        positive: the class that counts as found.
        main: the value to select by.

    Raises:
        ValueError: there are no items, the lengths differ, or ``main`` needs a positive class.
    """
    from sklearn.metrics import f1_score  # noqa: PLC0415  a second that whoever only answers need not wait

    check_items(gold, predicted)
    right = [label for label, guess in zip(gold, predicted, strict=True) if label == guess]
    given = [label for label in predicted if label is not None]
    per_class = {"gold": Counter(gold), "predicted": Counter(given), "correct": Counter(right)}
    classes = sorted({*gold, *given})
    answers = [label or "" for label in predicted]
    of_class = f1_score(list(gold), answers, labels=classes, average=None, zero_division=0).tolist()
    values = {
        "accuracy": ratio(len(right), len(gold)),
        "macro_f1": fmean(of_class),
        "most_frequent_share": ratio(max(per_class["gold"].values()), len(gold)),
    }
    if positive is not None:
        values["f1"] = dict(zip(classes, of_class, strict=True)).get(positive, 0.0)
    if missing := [part for part in parts_of(main) if part not in values]:
        raise ValueError(f"main = '{main}' needs {missing[0]}, and so the positive class")
    return Scores(
        values=values | {main: fmean(values[part] for part in parts_of(main))},
        counts={"items": len(gold), "correct": len(right)}
        | {f"{kind}/{label}": count[label] for label in classes for kind, count in per_class.items()},
        main=main,
    )


def parts_of(main: Main) -> list[str]:
    """The values that a main value is the mean of."""
    return main.split("_and_")
