"""Extractive question answering: SQuAD 1.1, and 2.0 with questions that have no answer.

Source: Liu et al. 2022, appendix A: two scores per token, 'start' and 'end'; the most confident
pair is the answer, and below a threshold the question counts as unanswerable. Windows with stride
over long contexts as in the SQuAD baselines of Devlin et al. 2019; the threshold that the script of
SQuAD 2.0 finds best on development data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from foreword.data.alignment import chars_to_tokens, trimmed
from foreword.data.batching import Encoded
from foreword.data.examples import Answer, QuestionExample
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.heads import Head, MatchingHead, TokenHead, Vocabulary
from foreword.metrics.qa import answer_scores, no_answer_threshold
from foreword.metrics.scores import Scores
from foreword.tasks.base import Columns, Encoding, Task
from foreword.tasks.making.answers import AnswerPrediction, Candidate, predict_answer
from foreword.tasks.making.depth import Depth, Layers

_LEAST = 8
"""Fewest tokens of a context that a window must hold."""


class QAColumns(Columns):
    """Which fields hold what."""

    question: str = "question"
    """The question."""
    context: str = "context"
    """The text that holds the answer."""
    answers: str = "answers"
    """A list of {"text", "answer_start"}, or {"text": [...], "answer_start": [...]}."""
    golds: str = "golds"
    """A list of texts that count as right, where they are others than those of the answers (MRQA)."""
    id: str = "id"
    """A name for the question, if the data has one."""


class QA(Depth, Task[QuestionExample, AnswerPrediction]):
    """Find the answer in the context, or say that there is none."""

    name: ClassVar[str] = "qa"
    summary: ClassVar[str] = "extractive question answering, SQuAD 1.1 and 2.0; exact match, F1"

    layers: Layers = "all"
    head: Literal["linear", "matching"] = "linear"
    """A 'linear' layer on every token, as in the papers; or, beside it, a small network that is told how like the words
    of the question each token is ('matching'). A sentence encoder without a prompt gains most (docs/studies)."""
    columns: QAColumns = QAColumns()
    """Names of the fields in the user's files."""
    window: PositiveInt = 384
    """Most tokens of one row: question, context and special tokens."""
    stride: PositiveInt = 128
    """Context tokens that neighbouring windows share."""
    max_answer_tokens: PositiveInt = 30
    """Longest answer considered."""
    n_best: PositiveInt = 20
    """How many of the best answers share the probability; `foreword predict --candidates` lists them."""
    unanswerable: bool | None = None
    """Whether questions may have no answer. Found from the training data when left out."""
    threshold: float | None = None
    """An answer must beat 'no answer' by this many logits, where questions may have none. When left out, the one with
    the best F1 on the dev data."""
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
        if labelled or record.has(self.columns.answers):
            answers = tuple(self._answers(record, context))
        return QuestionExample(
            id=str(record.get(self.columns.id, number)),
            question=record.text(self.columns.question),
            context=context,
            answers=answers,
            golds=self._golds(record) if record.has(self.columns.golds) else None,
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

    def _golds(self, record: Record) -> tuple[str, ...]:
        golds = record.value(self.columns.golds)
        if not isinstance(golds, list | tuple) or not all(isinstance(gold, str) for gold in golds):
            raise record.error("expected a list of texts", field=self.columns.golds)
        return tuple(golds)

    def with_labels_from(self, examples: Sequence[QuestionExample]) -> Self:
        """Whether some question has no answer."""
        if self.unanswerable is not None:
            return self
        return self.model_copy(update={"unanswerable": any(not e.accepted for e in examples)})

    def check_labels(self, records: Sequence[Record], examples: Sequence[QuestionExample]) -> None:
        """Refuse unanswerable questions where training had none."""
        if self.unanswerable:
            return
        for record, example in zip(records, examples, strict=True):
            if not example.accepted:
                raise record.error(
                    "this question has no answer, and the training data had no such question",
                    field=self.columns.answers,
                    hint="Set task.unanswerable = true to allow it",
                )

    def encode(self, example: QuestionExample, tokenizer: Any, max_length: int) -> Encoding:
        """Windows over the context; the question stands in every one of them."""
        limit = min(self.window, max_length)
        encoded = tokenizer(example.question.strip(), example.context, return_offsets_mapping=True, verbose=False)
        whole = _Whole(encoded.encodings[0], example.context, marked=self.head == "matching")
        room = limit - (len(whole.ids) - len(whole.context))
        if room < _LEAST:
            raise DataError(
                f"question {example.id}: it leaves no room for its context in a window of {limit} tokens",
                hint="Shorten the question or raise task.window",
            )
        stride = min(self.stride, room // 2)  # else rows far shorter than `window` would hardly move on
        rows = tuple(whole.row(window, example) for window in _windows(whole.context, room, stride))
        found = any(row.targets.get("start", 0) for row in rows)
        note = "with several windows" if len(rows) > 1 else None
        if example.answers is not None and example.accepted and not found:
            note = "whose answer no window holds"
        return Encoding(rows, note)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """Two outputs per token."""
        states = self.states_read(vocabulary)
        if self.head == "matching":
            return MatchingHead(hidden_size, 2, dropout=self.dropout, states=states)
        return TokenHead(hidden_size, 2, dropout=self.dropout, chooses_position=True, states=states)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Mean of the cross-entropies of start and end; ``logits`` is ``(B, T, 2)``."""
        start, end = logits.float().unbind(-1)
        cross_entropy = torch.nn.functional.cross_entropy
        return (cross_entropy(start, targets["start"]) + cross_entropy(end, targets["end"])) / 2

    def decode(self, example: QuestionExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> AnswerPrediction:
        """The best spans over all windows, and what 'no answer' has."""
        return predict_answer(
            example.context,
            rows,
            logits,
            longest=self.max_answer_tokens,
            n_best=self.n_best,
            nullable=bool(self.unanswerable),
        )

    def settle(self, examples: Sequence[QuestionExample], predictions: Sequence[AnswerPrediction]) -> Self:
        """Choose the threshold with the best F1, where questions may have no answer and none is set."""
        if not self.unanswerable or self.threshold is not None:
            return self
        best = no_answer_threshold(
            [example.accepted for example in examples],
            [prediction.text for prediction in predictions],
            [prediction.margin for prediction in predictions],
        )
        return self.model_copy(update={"threshold": best})

    def _given(self, prediction: AnswerPrediction) -> Candidate | None:
        """The answer that is given, None for 'no answer'; before a threshold was found it is 0."""
        if not prediction.candidates or (self.unanswerable and prediction.margin <= (self.threshold or 0.0)):
            return None
        return prediction.candidates[0]

    def score(self, examples: Sequence[QuestionExample], predictions: Sequence[AnswerPrediction]) -> Scores:
        """Official exact match and F1."""
        return answer_scores([example.accepted for example in examples], [*map(self.answer_key, predictions)])

    def to_json(self, example: QuestionExample, prediction: AnswerPrediction) -> dict[str, Any]:
        """The answer with character offsets, or null."""
        return {"id": example.id, **_entry(self._given(prediction), prediction)}

    def candidates(self, example: QuestionExample, prediction: AnswerPrediction) -> list[dict[str, Any]]:
        """The best answers, 'no answer' among them where there is such a thing; the most probable first."""
        del example
        offered = [*prediction.candidates, *[None] * bool(self.unanswerable)]
        entries = [_entry(candidate, prediction) for candidate in offered]
        return sorted(entries, key=lambda entry: -entry["probability"])

    def answer_key(self, prediction: AnswerPrediction) -> str:
        """The answer's text, empty for 'no answer'."""
        given = self._given(prediction)
        return "" if given is None else given.text


def _entry(candidate: Candidate | None, prediction: AnswerPrediction) -> dict[str, Any]:
    """A candidate, or 'no answer', as `foreword predict` writes it."""
    if candidate is None:
        probability = prediction.null_probability
        return {"answer": None, "start": None, "end": None, "probability": round(probability, 6)}
    return {
        "answer": candidate.text,
        "start": candidate.start,
        "end": candidate.end,
        "probability": round(candidate.probability, 6),
    }


class _Whole:
    """A question and its whole context as tokens, to cut windows out of.

    Args:
        parts: of the tokenizer, for the pair, nothing truncated.
        context: the text.
        marked: whether rows say which of their tokens are the question's.
    """

    def __init__(self, parts: Any, context: str, *, marked: bool) -> None:
        of_context = [sequence == 1 for sequence in parts.sequence_ids]
        first = of_context.index(True) if any(of_context) else len(of_context)
        self.context = range(first, first + sum(of_context))
        self.ids: list[int] = parts.ids
        self.types: list[int] | None = parts.type_ids if any(parts.type_ids) else None
        offsets = trimmed(parts.offsets, of_context, context)
        self.offsets = [span if ours else (0, 0) for span, ours in zip(offsets, of_context, strict=True)]
        self.reads = [start < end for start, end in self.offsets]
        self.marks = [int(sequence == 0) for sequence in parts.sequence_ids] if marked else None

    def row(self, window: range, example: QuestionExample) -> Encoded:
        """The row with these tokens of the context, and where the first answer stands in it."""

        def cut(values: list[Any]) -> list[Any]:
            return [*values[: self.context.start], *values[window.start : window.stop], *values[self.context.stop :]]

        offsets, reads = cut(self.offsets), cut(self.reads)
        targets: dict[str, int | list[int]] = {}
        if example.answers is not None:
            start, end = 0, 0  # the first token ([CLS], <s>) stands for 'not in this window'
            if example.answers:
                answer = example.answers[0]
                start, end = chars_to_tokens(answer.start, answer.start + len(answer.text), offsets, reads) or (0, 0)
            targets = {"start": start, "end": end}
        types = None if self.types is None else cut(self.types)
        return Encoded(
            input_ids=cut(self.ids),
            token_type_ids=types,
            targets=targets,
            offsets=offsets,
            reads=reads,
            marks=() if self.marks is None else cut(self.marks),
        )


def _windows(tokens: range, room: int, stride: int) -> Iterator[range]:
    """Stretches of at most ``room`` tokens, neighbours sharing ``stride``, up to the first that reaches the end."""
    for start in range(tokens.start, tokens.stop + 1, room - stride):
        yield range(start, min(start + room, tokens.stop))
        if start + room >= tokens.stop:
            return


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
