"""Answers to a question, out of the scores of start and end: the best spans of all windows, and 'no answer'.

Source: Devlin et al. 2019, sections 4.2 and 4.3, and the code of their SQuAD baselines: a span's score is the sum
of its ends' logits, that of 'no answer' is the sum at the first token, the lowest of all windows; probabilities
are a softmax over the spans offered; and a span counts only in the window that surrounds its first token with the
most context (docs/log.md). Departure: the best spans are found without leaving any out, where that code looks only
among the best starts and ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from foreword.data.alignment import tokens_to_chars
from foreword.data.batching import Encoded


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stretch of the context that may be the answer.

    Attributes:
        text: of the context.
        start, end: its characters.
        score: sum of the logits of its two ends.
        probability: among all candidates of the question, and 'no answer' where there is such a thing, in [0, 1].
    """

    text: str
    start: int
    end: int
    score: float
    probability: float


@dataclass(frozen=True, slots=True)
class AnswerPrediction:
    """What may be the answer; whether any is given depends on the task's threshold.

    Attributes:
        candidates: the best first, each with a text of its own; none where there is nothing to read.
        null_score: sum of the logits of 'no answer', the lowest of all windows.
        null_probability: of 'no answer', in [0, 1]; 0 where there is no such thing.
    """

    candidates: tuple[Candidate, ...]
    null_score: float
    null_probability: float

    @property
    def margin(self) -> float:
        """How far the best candidate is above 'no answer', in logits; -inf where there is none."""
        return self.candidates[0].score - self.null_score if self.candidates else -math.inf

    @property
    def text(self) -> str:
        """The best candidate's text, empty where there is none."""
        return self.candidates[0].text if self.candidates else ""


def predict_answer(
    context: str, rows: Sequence[Encoded], logits: Sequence[Tensor], *, longest: int, n_best: int, nullable: bool
) -> AnswerPrediction:
    """The best spans over all windows.

    Args:
        context: that the rows' offsets point into.
        rows: the windows.
        logits: of each, ``(T, 2)`` for start and end.
        longest: most tokens of a span.
        n_best: most candidates.
        nullable: whether 'no answer' takes a share of the probability.
    """
    null = min(float(scores[0].sum()) for scores in logits)
    found: dict[str, tuple[float, int, int]] = {}  # text -> score, and where it scores best
    for row, scores, starts in zip(rows, logits, fullest_windows(rows), strict=True):
        for score, first, last in best_spans(scores, torch.tensor(starts), torch.tensor(row.reads), longest, n_best):
            start, end = tokens_to_chars(first, last, row.offsets)
            text = context[start:end]
            if text not in found or score > found[text][0]:
                found[text] = (score, start, end)
    best = sorted(found.items(), key=lambda item: -item[1][0])[:n_best]
    weights = [score for _, (score, _, _) in best] + [null] * nullable
    shares = torch.tensor(weights, dtype=torch.float64).softmax(0).tolist()
    null_share = shares.pop() if nullable else 0.0
    offered = zip(best, shares, strict=True)
    candidates = tuple(Candidate(text, start, end, score, share) for (text, (score, start, end)), share in offered)
    return AnswerPrediction(candidates, null, null_share)


def fullest_windows(rows: Sequence[Encoded]) -> list[list[bool]]:
    """Per window and token, whether no other window surrounds that token of the context with more of it.

    How much that is: what stands on its shorter side, and for a tie, and little else, the size of the window.
    """
    if len(rows) == 1:
        return [list(rows[0].reads)]
    best: dict[tuple[int, int], tuple[float, int]] = {}  # characters of a token -> context, and in which window
    for number, row in enumerate(rows):
        spans = [span for span, reads in zip(row.offsets, row.reads, strict=True) if reads]
        for place, span in enumerate(spans):
            context = min(place, len(spans) - 1 - place) + 0.01 * len(spans)
            if span not in best or context > best[span][0]:
                best[span] = (context, number)
    return [
        [reads and best[span][1] == number for span, reads in zip(row.offsets, row.reads, strict=True)]
        for number, row in enumerate(rows)
    ]


def best_spans(scores: Tensor, starts: Tensor, ends: Tensor, longest: int, count: int) -> list[tuple[float, int, int]]:
    """Score, first and last token of the best spans, best first; none is missed.

    Only the band of ends that are near enough to their start is looked at, ``(T, longest)`` and not ``(T, T)``.

    Args:
        scores: ``(T, 2)`` logits of start and end.
        starts, ends: ``(T,)`` bool, tokens where one may start and end.
        longest: most tokens of a span.
        count: most spans.
    """
    width = min(longest, len(scores))
    first = scores[:, 0].masked_fill(~starts, -math.inf)
    last = scores[:, 1].masked_fill(~ends, -math.inf)
    padded = torch.cat([last, last.new_full((width - 1,), -math.inf)])
    sums = (first[:, None] + padded.unfold(0, width, 1)).flatten()  # (T * width,): start by length
    top = sums.topk(min(count, len(sums)))
    spans = zip(top.values.tolist(), top.indices.tolist(), strict=True)
    return [(score, at // width, at // width + at % width) for score, at in spans if score > -math.inf]
