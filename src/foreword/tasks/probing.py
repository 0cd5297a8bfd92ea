"""Knowledge probing: facts as cloze questions that a language model answers with one word.

Sources: Petroni et al. 2019 (LAMA) for the data and the scores; Liu et al. 2021 (P-tuning), section 4.1 and the
code of its LAMA experiments, for a prompt trained around mask and subject. Departure: the loss is over the words
that may be answered, the ones that are ranked, where that code's is over the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import ValidationInfo, field_validator
from torch import Tensor

from foreword.data.batching import Encoded
from foreword.data.examples import TextExample
from foreword.data.readers.base import read_lines
from foreword.data.records import Record
from foreword.errors import DataError, TaskError
from foreword.heads import VerbalizerHead, Vocabulary
from foreword.metrics.probing import rank_scores
from foreword.metrics.scores import Scores
from foreword.tasks.base import Columns, Encoding, Task
from foreword.tasks.making.cloze import Cloze

_KEPT = 10
"""Words of a prediction, best first."""
_SKIP = "Set task.unknown_words = 'skip' to leave such facts out"


@dataclass(frozen=True, slots=True)
class WordsPrediction:
    """What the model says.

    Attributes:
        words: the most probable ones, each with its probability in [0, 1] among all that may be answered; none for
            a fact that was left out.
        rank: of the fact's object, counted from 1; None where it is not known.
    """

    words: tuple[tuple[str, float], ...]
    rank: int | None


class ProbingColumns(Columns):
    """Which fields hold what."""

    subject: str = "sub_label"
    """What the fact is about."""
    object: str = "obj_label"
    """The word that is asked for."""
    id: str = "uuid"
    """A name for the fact, if the data has one."""


class Probing(Task[TextExample, WordsPrediction]):
    """Which word a language model puts where the object of a fact is missing. Nothing is trained but the prompt."""

    name: ClassVar[str] = "probing"
    summary: ClassVar[str] = "facts as cloze questions to a language model; P@1, P@10, mean reciprocal rank"

    labels: tuple[str, ...] | None = None
    """Words that may be answered. When left out, those of task.vocabulary, or else all words that are one token."""
    columns: ProbingColumns = ProbingColumns()
    """Names of the fields in the user's files."""
    template: str = "{mask} {subject}"
    """The cloze question of a relation, such as '{subject} was born in {mask} .'; for decoders it ends where the word
    comes next, as '{subject} was born in'. By default there is nothing but what a trained prompt stands around."""
    vocabulary: str | None = None
    """File of words that may be answered, one a line, such as LAMA's common vocabulary."""
    unknown_words: Literal["error", "skip"] = "error"
    """What to do with an object, or a word of the vocabulary file, that is not one token, or not among those that may
    be answered: stop, or leave it out. Facts that are left out are counted and not scored."""

    @field_validator("template")
    @classmethod
    def _is_a_template(cls, template: str) -> str:
        Cloze(template, ("subject",))
        return template

    @field_validator("vocabulary")
    @classmethod
    def _one_source_of_words(cls, vocabulary: str | None, info: ValidationInfo) -> str | None:
        if vocabulary is not None and info.data.get("labels") is not None:
            raise ValueError("leave it out where task.labels lists the words")
        return vocabulary

    @property
    def _cloze(self) -> Cloze:
        return Cloze(self.template, ("subject",))

    @property
    def needs_language_model(self) -> bool:
        """Always."""
        return True

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[TextExample]:
        """One example per fact: the subject is its text, the object its label."""
        return [
            TextExample(
                id=str(record.get(self.columns.id, number)),
                text=record.text(self.columns.subject),
                label=record.text(self.columns.object).strip() if labelled else None,
            )
            for number, record in enumerate(records, first)
        ]

    def with_vocabulary(self, vocabulary: Vocabulary) -> Self:
        """Find the words that may be answered, and write them as the tokenizer does, in lower case, say.

        Raises:
            BackboneError, TaskError: the backbone does not answer such a template, or a word is not one token there.
            DataError: the vocabulary file cannot be read.
        """
        cloze = self._cloze
        tokenizer = cloze.check_backbone(vocabulary, f"task.type = '{self.name}'").tokenizer
        if self.labels is None and self.vocabulary is None:
            return self.model_copy(update={"labels": tuple(cloze.vocabulary(tokenizer))})
        listed = self.labels or [line.strip() for line in read_lines(self.vocabulary or "") if line.strip()]
        words: dict[str, None] = {}
        for word, token in zip(listed, cloze.lookup(listed, tokenizer), strict=True):
            if isinstance(token, int):
                words[_written(token, tokenizer)] = None
            elif self.labels is not None or self.unknown_words == "error":
                raise TaskError(f"{self.vocabulary or 'task.labels'}: the word '{word}' {token}")
        if not words:
            raise TaskError(f"{self.vocabulary}: no word in it is one token of '{vocabulary.name}'")
        return self.model_copy(update={"labels": tuple(words), "vocabulary": None})

    def encode(self, example: TextExample, tokenizer: Any, max_length: int) -> Encoding:
        """One row, or none for a fact that is left out.

        Raises:
            DataError: the fact's object cannot be answered, and such facts are not to be left out.
        """
        if example.label is None:
            return self._cloze.encode({"subject": example.text}, {}, tokenizer, max_length)
        place = self._place(example.label, tokenizer)
        if isinstance(place, int):
            return self._cloze.encode({"subject": example.text}, {"label": place}, tokenizer, max_length)
        if self.unknown_words == "skip":
            return Encoding((), "left out, since their object cannot be answered")
        raise DataError(f"fact {example.id}: its object '{example.label}' {place}", hint=_SKIP)

    def _place(self, word: str, tokenizer: Any) -> int | str:
        """The number of a word among those that may be answered, or what is wrong with it."""
        places = _numbered(self.labels or ())
        if word in places:
            return places[word]
        (token,) = self._cloze.lookup([word], tokenizer)
        if isinstance(token, str):
            return token
        return places.get(_written(token, tokenizer), "is not among the words that may be answered")

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> VerbalizerHead:
        """The language model's own logits of the words that may be answered.

        Raises:
            BackboneError, TaskError: the backbone does not answer such a template, or a word is not one token there.
        """
        del hidden_size
        model = self._cloze.check_backbone(vocabulary, f"task.type = '{self.name}'")
        words = self.labels or ()
        tokens = self._cloze.lookup(words, model.tokenizer)
        for word, token in zip(words, tokens, strict=True):
            if isinstance(token, str):
                raise TaskError(f"task.labels: the word '{word}' {token}")
        return VerbalizerHead([token for token in tokens if isinstance(token, int)])

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy over facts; ``logits`` is ``(B, C)``."""
        return torch.nn.functional.cross_entropy(logits.float(), targets["label"])

    def decode(self, example: TextExample, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> WordsPrediction:
        """The words that the model ranks highest; of equal ones the first in the list of words."""
        del example
        if not rows:
            return WordsPrediction((), None)
        order = logits[0].argsort(descending=True, stable=True).tolist()
        shares, labels = logits[0].softmax(-1), self.labels or ()
        place = rows[0].targets.get("label")
        rank = None if place is None else order.index(place) + 1
        return WordsPrediction(tuple((labels[i], float(shares[i])) for i in order[:_KEPT]), rank)

    def score(self, examples: Sequence[TextExample], predictions: Sequence[WordsPrediction]) -> Scores:
        """P@1, P@10 and mean reciprocal rank of the facts that were not left out.

        Raises:
            TaskError: all were.
        """
        del examples
        ranks = [prediction.rank for prediction in predictions if prediction.rank is not None]
        if not ranks:
            raise TaskError(f"none of {len(predictions)} facts has an object that can be answered")
        return rank_scores(ranks)

    def to_json(self, example: TextExample, prediction: WordsPrediction) -> dict[str, Any]:
        """The word, and its probability among all that may be answered."""
        return {"id": example.id, **self.candidates(example, prediction)[0]}

    def candidates(self, example: TextExample, prediction: WordsPrediction) -> list[dict[str, Any]]:
        """Up to ten words."""
        del example
        return [{"word": word, "probability": round(share, 6)} for word, share in prediction.words]

    def answer_key(self, prediction: WordsPrediction) -> str:
        """The word."""
        return prediction.words[0][0] if prediction.words else ""


def _written(token: int, tokenizer: Any) -> str:
    """A token as a word."""
    return str(tokenizer.decode([token])).strip()


@lru_cache(maxsize=8)
def _numbered(words: tuple[str, ...]) -> Mapping[str, int]:
    """Word -> its number."""
    return {word: number for number, word in enumerate(words)}
