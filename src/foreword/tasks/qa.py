"""Extractive question answering: SQuAD 1.1, and 2.0 with questions that have no answer.

Source: Liu et al. 2022, appendix A: two scores per token, 'start' and 'end'; the most confident
pair is the answer, and below a threshold the question counts as unanswerable. Windows with stride
over long contexts as in the SQuAD baselines of Devlin et al. 2019.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from foreword.data.alignment import chars_to_tokens, tokens_to_chars, trimmed
from foreword.data.batching import Encoded
from foreword.data.examples import Answer, QuestionExample
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.heads import TokenHead, Vocabulary
from foreword.metrics.qa import answer_scores
from foreword.metrics.scores import Scores
from foreword.tasks.base import Columns, Encoding, Task


@dataclass(frozen=True, slots=True)
class AnswerPrediction:
    """A stretch of the context, or nothing.

    Attributes:
        text: the answer; empty when the question is held to be unanswerable.
        start, end: characters of the context; None when there is no answer.
        score: best span's score minus that of 'no answer', in logits.
        probability: of the answer given, among all spans of its window and 'no answer', in [0, 1].
    """

    text: str
    start: int | None
    end: int | None
    score: float
    probability: float


class QAColumns(Columns):
    """Which fields hold what."""

    question: str = "question"
    """The question."""
    context: str = "context"
    """The text that holds the answer."""
    answers: str = "answers"
    """A list of {"text", "answer_start"}, or {"text": [...], "answer_start": [...]}."""
    id: str = "id"
    """A name for the question, if the data has one."""


class QA(Task[QuestionExample, AnswerPrediction]):
    """Find the answer in the context, or say that there is none."""

    name: ClassVar[str] = "qa"
    summary: ClassVar[str] = "extractive question answering, SQuAD 1.1 and 2.0; exact match, F1"

    columns: QAColumns = QAColumns()
    """Names of the fields in the user's files."""
    window: PositiveInt = 384
    """Most tokens of one row: question, context and special tokens."""
    stride: PositiveInt = 128
    """Context tokens that neighbouring windows share."""
    max_answer_tokens: PositiveInt = 30
    """Longest answer considered."""
    unanswerable: bool | None = None
    """Whether questions may have no answer. Found from the training data when left out."""
    threshold: float = 0.0
    """An answer must beat 'no answer' by this many logits. Only where questions may have none."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout in the head."""

    @model_validator(mode="after")
    def _stride_fits(self) -> Self:
        if self.stride >= self.window:
            raise ValueError(f"stride ({self.stride}) must be smaller than window ({self.window})")
        return self

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[QuestionExample]:
        """One example per question."""
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> QuestionExample:
        context = record.text(self.columns.context)
        answers = None
        if labelled or self.columns.answers in record.fields:
            answers = tuple(self._answers(record, context))
        return QuestionExample(
            id=str(record.fields.get(self.columns.id, number)),
            question=record.text(self.columns.question),
            context=context,
            answers=answers,
        )

    def _answers(self, record: Record, context: str) -> Iterable[Answer]:
        for text, start in _answer_pairs(record, self.columns.answers):
            if context[start : start + len(text)] != text or start < 0:
                found = context[max(start, 0) : max(start, 0) + len(text)]
                raise record.error(
                    f"answer {text!r:.60} is not in its context at character {start} (there stands {found!r:.60})",
                    field=self.columns.answers,
                )
            yield Answer(text, start)

    def with_labels_from(self, examples: Sequence[QuestionExample]) -> Self:
        """Whether some question has no answer."""
        if self.unanswerable is not None:
            return self
        return self.model_copy(update={"unanswerable": any(e.answers == () for e in examples)})

    def check_labels(self, records: Sequence[Record], examples: Sequence[QuestionExample]) -> None:
        """Refuse unanswerable questions where training had none."""
        if self.unanswerable:
            return
        for record, example in zip(records, examples, strict=True):
            if example.answers == ():
                raise record.error(
                    "this question has no answer, and the training data had no such question",
                    field=self.columns.answers,
                    hint="Set task.unanswerable = true to allow it",
                )

    def encode(self, example: QuestionExample, tokenizer: Any, max_length: int) -> Encoding:
        """Windows over the context; the question stands in every one of them."""
        limit = min(self.window, max_length)
        question = example.question.strip()
        room = limit - len(tokenizer(question, verbose=False)["input_ids"]) - tokenizer.num_special_tokens_to_add(True)
        if room < 8:
            raise DataError(
                f"question {example.id}: it leaves no room for its context in a window of {limit} tokens",
                hint="Shorten the question or raise task.window",
            )
        encoded = tokenizer(
            question,
            example.context,
            truncation="only_second",
            max_length=limit,
            stride=min(self.stride, room // 2),  # else rows far shorter than `window` would hardly move on
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        rows = tuple(self._row(example, parts) for parts in encoded.encodings)
        found = any(row.targets.get("start", 0) for row in rows)
        note = "with several windows" if len(rows) > 1 else None
        if example.answers and not found:
            note = "whose answer no window holds"
        return Encoding(rows, note)

    def _row(self, example: QuestionExample, parts: Any) -> Encoded:
        context = [sequence == 1 for sequence in parts.sequence_ids]
        offsets = trimmed(parts.offsets, context, example.context)
        reads = [ours and start < end for (start, end), ours in zip(offsets, context, strict=True)]
        targets: dict[str, int | list[int]] = {}
        if example.answers is not None:
            start, end = 0, 0  # the first token ([CLS], <s>) stands for 'not in this window'
            if example.answers:
                answer = example.answers[0]
                tokens = chars_to_tokens(answer.start, answer.start + len(answer.text), offsets, reads)
                start, end = tokens or (0, 0)
            targets = {"start": start, "end": end}
        types = parts.type_ids if any(parts.type_ids) else None
        return Encoded(input_ids=parts.ids, token_type_ids=types, targets=targets, offsets=offsets, reads=reads)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> TokenHead:
        """Two outputs per token."""
        del vocabulary
        return TokenHead(hidden_size, 2, dropout=self.dropout, chooses_position=True)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Mean of the cross-entropies of start and end; ``logits`` is ``(B, T, 2)``."""
        start, end = logits.float().unbind(-1)
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(start, targets["start"]) + cross_entropy(end, targets["end"])) / 2

    def decode(self, example: QuestionExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> AnswerPrediction:
        """The best span over all windows, or nothing if 'no answer' beats it."""
        best, null = None, float("inf")
        for row, scores in zip(rows, logits, strict=True):
            null = min(null, float(scores[0, 0] + scores[0, 1]))
            span = _best_span(scores, torch.tensor(row.reads), self.max_answer_tokens)
            if span is not None and (best is None or span.score > best[1].score):
                best = (row, span)
        if best is None:
            return AnswerPrediction("", None, None, float("-inf"), 1.0)
        row, span = best
        margin = span.score - null
        if self.unanswerable and margin <= self.threshold:
            return AnswerPrediction("", None, None, margin, 1 - span.probability)
        start, end = tokens_to_chars(span.first, span.last, row.offsets)
        return AnswerPrediction(example.context[start:end], start, end, margin, span.probability)

    def score(self, examples: Sequence[QuestionExample], predictions: Sequence[AnswerPrediction]) -> Scores:
        """Official exact match and F1."""
        golds = [[answer.text for answer in example.answers or ()] for example in examples]
        return answer_scores(golds, [prediction.text for prediction in predictions])

    def to_json(self, example: QuestionExample, prediction: AnswerPrediction) -> dict[str, Any]:
        """The answer with character offsets, or null."""
        return {
            "id": example.id,
            "answer": prediction.text or None,
            "start": prediction.start,
            "end": prediction.end,
            "probability": round(prediction.probability, 6),
        }

    def answer_key(self, prediction: AnswerPrediction) -> str:
        """The answer's text."""
        return prediction.text


@dataclass(frozen=True, slots=True)
class _TokenSpan:
    first: int
    last: int
    score: float
    probability: float


def _best_span(scores: Tensor, reads: Tensor, longest: int) -> _TokenSpan | None:
    """The best (start, end) with both in the context and at most ``longest`` tokens.

    Args:
        scores: ``(T, 2)`` logits of start and end.
        reads: ``(T,)`` bool, tokens of the context.
    """
    if not bool(reads.any()):
        return None
    length = scores.shape[0]
    pairs = scores[:, :1] + scores[None, :, 1]  # (T, T): start by end
    position = torch.arange(length)
    width = position[None, :] - position[:, None]
    allowed = reads[:, None] & reads[None, :] & (width >= 0) & (width < longest)
    pairs = pairs.masked_fill(~allowed, float("-inf"))
    flat = int(pairs.argmax())
    first, last = divmod(flat, length)
    null = scores[0, 0] + scores[0, 1]
    total = torch.logsumexp(torch.cat([pairs[allowed], null[None]]), 0)
    return _TokenSpan(first, last, float(pairs[first, last]), float((pairs[first, last] - total).exp()))


def _answer_pairs(record: Record, field: str) -> list[tuple[str, int]]:
    """Answers as (text, start), from either shape that SQuAD-like data comes in."""
    value = record.value(field)
    if isinstance(value, dict) and {"text", "answer_start"} <= value.keys():
        if not isinstance(value["text"], list) or not isinstance(value["answer_start"], list):
            raise record.error("expected lists under 'text' and 'answer_start'", field=field)
        if len(value["text"]) != len(value["answer_start"]):
            raise record.error("expected as many under 'text' as under 'answer_start'", field=field)
        value = [
            {"text": text, "answer_start": start}
            for text, start in zip(value["text"], value["answer_start"], strict=True)
        ]
    pairs = []
    for item in value if isinstance(value, list) else [None]:
        match item:
            case {"text": str(text), "answer_start": int(start)} if text:
                pairs.append((text, start))
            case _:
                raise record.error('expected a list of {"text", "answer_start"}', field=field)
    return pairs
