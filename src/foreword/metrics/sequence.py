"""Scores of sequence labelling: typed spans, right only when wholly right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Sequence
from typing import Protocol

from foreword.data.examples import Entity
from foreword.metrics.scores import Scores, check_items, ratio


class Typed(Hashable, Protocol):
    """Something with a type, equal to others of the same type and place."""

    @property
    def type(self) -> str:
        """What it is counted under."""


def entity_scores(gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]) -> Scores:
    """Precision, recall and F1 (the main value) over entities, micro-averaged.

    As the ``conlleval`` script of the CoNLL-2000 shared task defines them: a predicted entity is
    correct iff the same sequence has a gold one with the same start, end and type; precision is
    correct / predicted, recall correct / gold, F1 their harmonic mean, each 0 where it divides by 0.
    An entity given twice counts once.

    Values, all fractions in [0, 1]: ``precision``, ``recall``, ``f1``, and the same for each type that
    occurs, as in ``f1/PER``. Counts: ``sequences``, ``gold``, ``predicted``, ``correct``, and the last
    three for each type, as in ``gold/PER``.

    Args:
        gold: the entities of each sequence.
        predicted: the entities found in each sequence, in the same order of sequences.

    Raises:
        ValueError: there are no sequences, or the lengths differ.
    """
    check_items(gold, predicted)
    values, counts = typed_scores(gold, predicted)
    return Scores(values=values, counts={"sequences": len(gold)} | counts, main="f1")


def typed_scores(
    gold: Sequence[Collection[Typed]], predicted: Sequence[Collection[Typed]]
) -> tuple[dict[str, float], dict[str, int]]:
    """Micro-averaged values and counts over typed things, right only when equal, and those of each type.

    Args:
        gold: the things in each sequence; one given twice counts once.
        predicted: those found, in the same order of sequences.
    """
    wanted, found, correct = Counter[str](), Counter[str](), Counter[str]()
    for true, guessed in zip(map(set, gold), map(set, predicted), strict=True):
        wanted.update(thing.type for thing in true)
        found.update(thing.type for thing in guessed)
        correct.update(thing.type for thing in true & guessed)
    values = _values("", wanted.total(), found.total(), correct.total())
    counts = _counts("", wanted.total(), found.total(), correct.total())
    for kind in sorted({*wanted, *found}):
        values |= _values(f"/{kind}", wanted[kind], found[kind], correct[kind])
        counts |= _counts(f"/{kind}", wanted[kind], found[kind], correct[kind])
    return values, counts


def _values(suffix: str, gold: int, predicted: int, correct: int) -> dict[str, float]:
    return {
        f"precision{suffix}": ratio(correct, predicted),
        f"recall{suffix}": ratio(correct, gold),
        # The harmonic mean of the two, in the form that loses nothing to rounding.
        f"f1{suffix}": ratio(2 * correct, gold + predicted),
    }


def _counts(suffix: str, gold: int, predicted: int, correct: int) -> dict[str, int]:
    return {f"gold{suffix}": gold, f"predicted{suffix}": predicted, f"correct{suffix}": correct}
