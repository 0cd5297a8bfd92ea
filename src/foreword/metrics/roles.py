"""Scores of semantic role labelling: arguments of predicates, right only when all their pieces are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from foreword.data.examples import Entity, Span
from foreword.metrics.scores import Scores, check_items, ratio
from foreword.metrics.sequence import typed_scores

PREDICATE = "V"
"""The role of the predicate itself, which is given and so not scored."""
CONTINUATION = "C-"
"""What the role of a further piece of an argument begins with."""
REFERENCE = "R-"
"""What the role of a reference to an argument begins with."""


class Argument(NamedTuple):
    """A role, and the stretches of words that bear it."""

    type: str
    pieces: tuple[Span, ...]


def arguments(roles: Iterable[Entity]) -> set[Argument]:
    """The arguments that spans of roles add up to; `role_scores` tells how."""
    found: list[tuple[str, list[Span]]] = []
    latest: dict[str, list[Span]] = {}
    for start, end, role in sorted(roles):
        kind = role.removeprefix(CONTINUATION)
        if kind == role or kind not in latest:
            latest[kind] = []
            found.append((kind, latest[kind]))
        latest[kind].append(Span(start, end))
    return {Argument(kind, tuple(pieces)) for kind, pieces in found if kind != PREDICATE}


def role_scores(gold: Sequence[Collection[Entity]], predicted: Sequence[Collection[Entity]]) -> Scores:
    """Precision, recall and F1 (the main value) over the arguments of all propositions, micro-averaged.

    By the rules of ``srl-eval.pl``, the evaluation script of the CoNLL-2004 and CoNLL-2005 shared tasks (Carreras
    and Marquez 2005, section 3):

    * Spans are read from left to right. One of role ``C-X`` is a further piece of the last argument of type ``X``
      before it; where there is none, it begins an argument of type ``X``. All other spans begin arguments.
    * Arguments of type ``V``, the predicate with its pieces, are not counted.
    * ``R-X``, a reference to an argument, is a type of its own.
    * An argument is correct iff the same proposition has a gold one of the same type and with the very same
      pieces. An argument of which one piece is missing or has other borders is wrong as a whole: one too
      many, and one missed.
    * Precision is correct / predicted, recall correct / gold, F1 their harmonic mean, each 0 where it divides by 0.
    * A proposition is perfect iff it has no argument too many and misses none.

    The script prints percentages; these are fractions in [0, 1]: ``precision``, ``recall``, ``f1``, ``perfect``, and
    the first three for each type that occurs, as in ``f1/ARG0``. Counts: ``propositions``, ``gold``, ``predicted``,
    ``correct``, and the last three for each type.

    Args:
        gold: the spans of each proposition, over words, not overlapping.
        predicted: the same as they were found, in the same order of propositions.

    Raises:
        ValueError: there are no propositions, or the lengths differ.
    """
    check_items(gold, predicted)
    wanted, found = list(map(arguments, gold)), list(map(arguments, predicted))
    values, counts = typed_scores(wanted, found)
    perfect = sum(true == guessed for true, guessed in zip(wanted, found, strict=True))
    return Scores(
        values=values | {"perfect": ratio(perfect, len(gold))},
        counts={"propositions": len(gold)} | counts,
        main="f1",
    )
