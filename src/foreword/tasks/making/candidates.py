"""What the tasks share whose questions about a passage bring candidate answers: one row per candidate.

A row is the passage and a statement made of question and candidate, and its target says whether that is right.
Source: Wang et al. 2019 (SuperGLUE), whose baselines read MultiRC and ReCoRD like this, as do Liu et al. 2022.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import ChoiceQuestion, PassageExample
from foreword.data.records import Record
from foreword.errors import DataError
from foreword.heads import PooledHead, Vocabulary
from foreword.tasks.base import Encoding, Task
from foreword.tasks.making.pooled import Pooled

_RIGHT = 1
"""Which of a row's two classes means that the statement is right."""


@dataclass(frozen=True, slots=True)
class CandidatesPrediction:
    """Per question, for each of its candidates the probability that it is right, in [0, 1], each for itself."""

    probabilities: tuple[tuple[float, ...], ...]


class CandidatesTask(Pooled, Task[PassageExample, CandidatesPrediction]):
    """A task with one record per passage; what its rows say is the same, what follows from it is not."""

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[PassageExample]:
        """One example per passage."""
        return [self.read_passage(record, number, labelled=labelled) for number, record in enumerate(records, first)]

    @abstractmethod
    def read_passage(self, record: Record, number: int, *, labelled: bool) -> PassageExample:
        """A passage with its questions.

        Raises:
            DataError: naming file, line and field.
        """

    @abstractmethod
    def statement(self, question: ChoiceQuestion, candidate: str) -> str:
        """What stands beside the passage in a candidate's row."""

    def encode(self, example: PassageExample, tokenizer: Any, max_length: int) -> Encoding:
        """One row per candidate of every question; a passage that is too long loses its end.

        Raises:
            DataError: a statement leaves no room for its passage.
        """
        asked = [(question, number) for question in example.questions for number in range(len(question.candidates))]
        statements = [self.statement(question, question.candidates[number]) for question, number in asked]
        room = max_length - tokenizer.num_special_tokens_to_add(True) - 1
        alone = tokenizer(statements, add_special_tokens=False, verbose=False)["input_ids"]
        for (question, _), ids in zip(asked, alone, strict=True):
            if len(ids) > room:
                raise DataError(
                    f"question {question.id}: with a candidate it has {len(ids)} tokens and leaves no room for its "
                    f"passage in a row of {max_length}",
                    hint="Shorten them, or raise training.max_length",
                )
        encoded = tokenizer(
            [example.passage] * len(statements),
            statements,
            truncation="only_first",
            max_length=max_length,
            verbose=False,
        )
        types = encoded.get("token_type_ids") or [None] * len(statements)
        rows = tuple(
            Encoded(
                input_ids=ids,
                token_type_ids=type_ids,
                targets={} if question.right is None else {"right": int(question.right[number])},
            )
            for (question, number), ids, type_ids in zip(asked, encoded["input_ids"], types, strict=True)
        )
        return Encoding(rows, "truncated" if any(part.overflowing for part in encoded.encodings) else None)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> PooledHead:
        """A head with two outputs, wrong and right."""
        return self.pooled_head(hidden_size, 2, vocabulary)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over candidates; ``logits`` is ``(B, 2)``."""
        return torch.nn.functional.cross_entropy(logits.float(), targets["right"])

    def decode(
        self, example: PassageExample, rows: Sequence[Encoded], logits: Sequence[Tensor]
    ) -> CandidatesPrediction:
        """How probable each candidate is."""
        del rows
        right = iter(row.softmax(-1)[_RIGHT].item() for row in logits)
        return CandidatesPrediction(tuple(tuple(islice(right, len(q.candidates))) for q in example.questions))
