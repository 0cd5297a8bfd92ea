"""Scores of questions that bring candidate answers of which any number are right."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from foreword.metrics.scores import Scores, check_items, ratio


def right_answer_scores(gold: Sequence[Sequence[bool]], predicted: Sequence[Sequence[bool]]) -> Scores:
    """F1 over all answers (the main value), F1 over questions, and exact match, as MultiRC defines them.

    Source: Khashabi et al. 2018, section 5, and their evaluation script, in which precision is 1 where nothing was
    called right, and recall is 1 where nothing is. SuperGLUE reports ``f1_a`` and ``exact_match``.

    Values, all fractions in [0, 1]:

    * ``f1_a``: F1 of 'right' over the answers of all questions together.
    * ``f1_m``: harmonic mean of the questions' mean precision and their mean recall.
    * ``exact_match``: share of questions none of whose answers is judged wrongly.
    * ``all_right_f1_a``: ``f1_a`` of calling every answer right.

    Counts: ``questions``, ``answers``, and how many of those are ``right``, ``predicted`` (called right), and
    ``correct`` (both).

    Args:
        gold: per question, for each of its candidates whether it is right.
        predicted: the same, as predicted.

    Raises:
        ValueError: there are no questions, or the numbers of questions or of candidates differ.
    """
    check_items(gold, predicted)
    pairs = [list(zip(wanted, said, strict=True)) for wanted, said in zip(gold, predicted, strict=True)]
    means = [sum(values) / len(pairs) for values in zip(*map(_precision_and_recall, pairs), strict=True)]
    answers = list(chain.from_iterable(pairs))
    right = sum(wanted for wanted, _ in answers)
    return Scores(
        values={
            "f1_a": _f1(*_precision_and_recall(answers)),
            "f1_m": _f1(*means),
            "exact_match": ratio(sum(all(a == b for a, b in pair) for pair in pairs), len(pairs)),
            "all_right_f1_a": _f1(*_precision_and_recall([(wanted, True) for wanted, _ in answers])),
        },
        counts={
            "questions": len(pairs),
            "answers": len(answers),
            "right": right,
            "predicted": sum(said for _, said in answers),
            "correct": sum(wanted and said for wanted, said in answers),
        },
        main="f1_a",
    )


def _precision_and_recall(pairs: Sequence[tuple[bool, bool]]) -> tuple[float, float]:
    right, called = sum(wanted for wanted, _ in pairs), sum(said for _, said in pairs)
    correct = sum(wanted and said for wanted, said in pairs)
    return (correct / called if called else 1.0), (correct / right if right else 1.0)


def _f1(precision: float, recall: float) -> float:
    return ratio(2 * precision * recall, precision + recall)
