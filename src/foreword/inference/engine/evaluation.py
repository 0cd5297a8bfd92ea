"""How good an ensemble is, and each of its members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from foreword.inference.engine.answers import Verdict
from foreword.metrics.scores import Scores
from foreword.tasks import Task


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scores of several that answer together, and of each alone, on the same data.

    Source: Lester et al. 2021, section 6 and table 3, who show the mean and the best member beside five that vote.

    Attributes:
        scores: of the ensemble.
        members: of each member, in order.
        agreement: mean share of members whose own answer is the ensemble's, in [0, 1].
    """

    scores: Scores
    members: tuple[Scores, ...]
    agreement: float

    @classmethod
    def of(cls, tasks: Sequence[Task[Any, Any]], examples: Sequence[Any], verdicts: Sequence[Verdict]) -> Self:
        """Score predictions.

        Args:
            tasks: of the members, each with what it chose on its dev data; the ensemble is scored by the first.
            examples: with their labels.
            verdicts: one per example, in order.

        Raises:
            ValueError: there are none.
        """
        alone = zip(*(verdict.members for verdict in verdicts), strict=True)
        return cls(
            tasks[0].score(examples, [verdict.prediction for verdict in verdicts]),
            tuple(task.score(examples, list(own)) for task, own in zip(tasks, alone, strict=True)),
            sum(verdict.agreement for verdict in verdicts) / len(verdicts),
        )
