"""Scores of multiple choice: one of an item's own choices is right."""

from __future__ import annotations

from collections.abc import Sequence

from foreword.metrics.scores import Scores, check_items, ratio


def choice_scores(gold: Sequence[int], predicted: Sequence[int]) -> Scores:
    """Accuracy, the share of items whose right choice was found, in [0, 1]; the official score of COPA.

    Counts: ``items`` and ``correct``.

    Args:
        gold, predicted: the number of a choice per item.

    Raises:
        ValueError: there are no items, or the lengths differ.
    """
    check_items(gold, predicted)
    correct = sum(right == guess for right, guess in zip(gold, predicted, strict=True))
    counts = {"items": len(gold), "correct": correct}
    return Scores(values={"accuracy": ratio(correct, len(gold))}, counts=counts, main="accuracy")
