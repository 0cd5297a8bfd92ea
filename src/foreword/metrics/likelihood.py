"""How likely a language model finds texts that are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from foreword.metrics.scores import Scores, ratio

_WORST = 700.0
"""Nats per token above which a perplexity is no longer a number."""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a model thinks of the targets of one example, each token given the ones before it.

    Attributes:
        log_probability: of all tokens together, in nats.
        tokens: how many there are, those that close a text among them.
        hits: tokens than which no other is likelier.
        texts: targets.
        exact: targets with hits alone, which is what greedy search would write.
    """

    log_probability: float = 0.0
    tokens: int = 0
    hits: int = 0
    texts: int = 0
    exact: int = 0


def likelihood_scores(found: Sequence[Likelihood], main: str = "likelihood") -> Scores:
    """Likelihood and accuracy of tokens that are given.

    Values, all fractions in [0, 1]:

    * ``likelihood``: geometric mean of the probabilities of all tokens, which is 1 / perplexity. It ranks models as
      their mean loss per token does, the other way round.
    * ``token_accuracy``: share of the tokens that were the likeliest in their place.
    * ``exact_match``: share of the texts that greedy search would have written to the letter.

    Measures: ``perplexity``. Counts: ``texts`` and ``tokens``.

    Args:
        found: one per example.
        main: which of the values to select by.

    Raises:
        ValueError: there are no tokens.
    """
    tokens, texts = sum(one.tokens for one in found), sum(one.texts for one in found)
    if not tokens:
        raise ValueError("no tokens to score")
    loss = -sum(one.log_probability for one in found) / tokens
    return Scores(
        values={
            "likelihood": math.exp(-loss),
            "token_accuracy": ratio(sum(one.hits for one in found), tokens),
            "exact_match": ratio(sum(one.exact for one in found), texts),
        },
        counts={"texts": texts, "tokens": tokens},
        main=main,
        measures={"perplexity": math.exp(min(loss, _WORST))},
    )
