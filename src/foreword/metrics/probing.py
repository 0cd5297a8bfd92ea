"""Scores of knowledge probing: at which rank a model says the right word."""

from __future__ import annotations

from collections.abc import Sequence

from foreword.metrics.scores import Scores, check_items, ratio


def rank_scores(ranks: Sequence[int]) -> Scores:
    """Precision at 1 (the main value) and at 10, and the mean reciprocal rank.

    As in LAMA (Petroni et al. 2019, section 4.5): P@k is the share of facts whose object is among the k words that
    the model ranks highest. Averaged over facts; the paper averages over relations, one of which a run is about.

    Values, all fractions in [0, 1]: ``p_at_1``, ``p_at_10``, ``mrr``. Counts: ``facts``.

    Args:
        ranks: of each fact's object among all words that may be answered, counted from 1.

    Raises:
        ValueError: there are no facts, or a rank is below 1.
    """
    check_items(ranks, ranks)
    if min(ranks) < 1:
        raise ValueError(f"ranks are counted from 1, found {min(ranks)}")
    values = {f"p_at_{k}": ratio(sum(rank <= k for rank in ranks), len(ranks)) for k in (1, 10)}
    mrr = sum(1 / rank for rank in ranks) / len(ranks)
    return Scores(values=values | {"mrr": mrr}, counts={"facts": len(ranks)}, main="p_at_1")
