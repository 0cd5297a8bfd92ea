"""Scores of extractive question answering, as the official SQuAD 2.0 evaluation defines them.

Source: Rajpurkar et al. 2016 and 2018 and their scripts; that of MRQA 2019 compares answers in the same way.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise

from foreword.metrics.scores import Scores, check_items, ratio

_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, white space made single spaces.

    Done in this order, so that ``the-end`` becomes ``theend`` and keeps its letters.
    """
    bare = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", bare).split())


def answer_scores(gold: Sequence[Sequence[str]], predicted: Sequence[str]) -> Scores:
    """Exact match and token F1 (the main value), each the best over a question's gold answers.

    The definitions of SQuAD 1.1 and 2.0 (Rajpurkar et al., 2016 and 2018): texts are compared after
    `normalise_answer`; F1 is of the two bags of words. A question without gold answers scores 1 iff
    the normalised prediction is empty, else 0. Gold answers that normalise to nothing are skipped.

    Values, all fractions in [0, 1] averaged over questions: ``f1``, ``exact_match``, and over the
    questions with and without gold answers, where there are such, ``has_answer_f1``,
    ``has_answer_exact_match``, ``no_answer_f1`` and ``no_answer_exact_match``. Counts: ``questions``,
    ``has_answer``, ``no_answer``.

    Args:
        gold: the gold answers of each question, none for one that cannot be answered.
        predicted: one answer per question, ``""`` for 'cannot be answered'.

    Raises:
        ValueError: there are no questions, or the lengths differ.
    """
    check_items(gold, predicted)
    pairs = [_best(answers, guess) for answers, guess in zip(gold, predicted, strict=True)]
    with_answer = [pair for pair, answers in zip(pairs, gold, strict=True) if answers]
    without = [pair for pair, answers in zip(pairs, gold, strict=True) if not answers]
    values: dict[str, float] = {}
    for prefix, group in (("", pairs), ("has_answer_", with_answer), ("no_answer_", without)):
        if group:
            values[f"{prefix}f1"] = ratio(sum(f1 for f1, _ in group), len(group))
            values[f"{prefix}exact_match"] = ratio(sum(exact for _, exact in group), len(group))
    counts = {"questions": len(pairs), "has_answer": len(with_answer), "no_answer": len(without)}
    return Scores(values=values, counts=counts, main="f1")


def no_answer_threshold(gold: Sequence[Sequence[str]], predicted: Sequence[str], margins: Sequence[float]) -> float:
    """The margin that a question must have to be answered, for the best mean F1: the script's ``best_f1_thresh``.

    It lies halfway between the margins of two questions, where the script takes one of them, so that rounding decides
    nothing; and questions of one margin are never told apart. Of thresholds that are as good, the highest is taken.

    Args:
        gold: the gold answers of each question, none for one that cannot be answered.
        predicted: the best answer to each question, whether or not it should be given.
        margins: how far its score is above that of 'no answer', negative where it is below; -inf where there is none.

    Raises:
        ValueError: there are no questions, or the lengths differ.
    """
    check_items(gold, predicted)
    gains: dict[float, float] = {}  # margin -> F1 that is won by answering the questions that have it
    for answers, guess, margin in zip(gold, predicted, margins, strict=True):
        if margin > -math.inf:
            gains[margin] = gains.get(margin, 0.0) + _best(answers, guess)[0] - _best(answers, "")[0]
    ordered = sorted(gains, reverse=True)
    if not ordered:
        return 0.0
    borders = [ordered[0] + 1.0, *((above + below) / 2 for above, below in pairwise(ordered)), ordered[-1] - 1.0]
    won = list(accumulate((gains[margin] for margin in ordered), initial=0.0))
    return borders[won.index(max(won))]


def _best(answers: Sequence[str], guess: str) -> tuple[float, float]:
    """F1 and exact match of one question, each the best over its gold answers."""
    found = normalise_answer(guess)
    wanted = [normal for normal in map(normalise_answer, answers) if normal] or [""]
    return max(_token_f1(normal, found) for normal in wanted), float(found in wanted)


def _token_f1(wanted: str, found: str) -> float:
    if not wanted or not found:
        return float(wanted == found)
    gold, guess = Counter(wanted.split()), Counter(found.split())
    return ratio(2 * (gold & guess).total(), gold.total() + guess.total())
