"""Questions about a passage with candidate answers, any number of which are right.

A candidate is called right where its probability reaches a threshold, which is chosen on the dev data unless it is set:
F1 asks for more answers than are more probable than not, most of all where a model is unsure.

Source: Khashabi et al. 2018 (MultiRC), in the files of SuperGLUE (Wang et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar, Self

from pydantic import Field

from foreword.data.examples import ChoiceQuestion, PassageExample
from foreword.data.nodes import Node
from foreword.data.records import Record
from foreword.metrics.right_answers import right_answer_scores
from foreword.metrics.scores import Scores
from foreword.metrics.threshold import DEFAULT_THRESHOLD, best_threshold
from foreword.tasks.base import Columns
from foreword.tasks.making.candidates import CandidatesPrediction, CandidatesTask


class MultiRCColumns(Columns):
    """Which fields hold what."""

    passage: str = "passage"
    """An object {"text", "questions": [{"question", "answers": [{"text", "label"}]}]}; a label is 0 or 1."""
    id: str = "idx"
    """A name for the passage and for each question, if the data has one."""


class MultiRC(CandidatesTask):
    """Say of every candidate answer whether it is right."""

    name: ClassVar[str] = "multirc"
    summary: ClassVar[str] = "which candidate answers are right, as in MultiRC; F1 over all answers, exact match"

    columns: MultiRCColumns = MultiRCColumns()
    """Names of the fields in the user's files."""
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Answers of at least this probability are called right. Chosen on the dev data, for F1a, when left out."""

    def read_passage(self, record: Record, number: int, *, labelled: bool) -> PassageExample:
        """A passage with its questions and their candidates."""
        passage, name = record.node(self.columns.passage), str(record.get(self.columns.id, number))
        return PassageExample(
            id=name,
            passage=passage.get("text").text(),
            questions=tuple(
                self._question(question, f"{name}-{place}", labelled)
                for place, question in enumerate(passage.get("questions").some())
            ),
        )

    def _question(self, question: Node, name: str, labelled: bool) -> ChoiceQuestion:
        answers = question.get("answers").some()
        given = labelled or all(answer.has("label") for answer in answers)
        return ChoiceQuestion(
            id=question.name(self.columns.id, name),
            text=question.get("question").text(),
            candidates=tuple(str(answer.get("text").expect(str).value) for answer in answers),
            right=tuple(_is_right(answer.get("label")) for answer in answers) if given else None,
        )

    def statement(self, question: ChoiceQuestion, candidate: str) -> str:
        """The question and the answer, one after the other."""
        return f"{question.text} {candidate}"

    def settle(self, examples: Sequence[PassageExample], predictions: Sequence[CandidatesPrediction]) -> Self:
        """With the threshold of highest F1a, unless one is set."""
        if self.threshold is not None:
            return self
        gold = chain.from_iterable(question.right or () for question in _questions(examples))
        found = chain.from_iterable(chain.from_iterable(p.probabilities) for p in predictions)
        return self.model_copy(update={"threshold": best_threshold(list(gold), list(found))})

    def score(self, examples: Sequence[PassageExample], predictions: Sequence[CandidatesPrediction]) -> Scores:
        """F1 over all answers (F1a), F1 over questions (F1m), and exact match."""
        said = chain.from_iterable(map(self._verdicts, predictions))
        return right_answer_scores([question.right or () for question in _questions(examples)], list(said))

    def to_json(self, example: PassageExample, prediction: CandidatesPrediction) -> dict[str, Any]:
        """Per question, its candidates with what is said of each."""
        questions = [
            {
                "id": question.id,
                "question": question.text,
                "answers": [
                    {"text": text, "label": int(right), "probability": round(probability, 6)}
                    for text, right, probability in zip(question.candidates, verdict, probabilities, strict=True)
                ],
            }
            for question, verdict, probabilities in zip(
                example.questions, self._verdicts(prediction), prediction.probabilities, strict=True
            )
        ]
        return {"id": example.id, "questions": questions}

    def answer_key(self, prediction: CandidatesPrediction) -> str:
        """'right' or 'wrong' where that is said of all, else what is said of each."""
        verdicts = list(chain.from_iterable(self._verdicts(prediction)))
        words = ["right" if verdict else "wrong" for verdict in verdicts]
        return words[0] if len(set(words)) == 1 else " ".join(words)

    def _verdicts(self, prediction: CandidatesPrediction) -> list[tuple[bool, ...]]:
        """Per question, which candidates are called right."""
        threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        return [tuple(p >= threshold for p in probabilities) for probabilities in prediction.probabilities]


def _questions(examples: Sequence[PassageExample]) -> list[ChoiceQuestion]:
    return [question for example in examples for question in example.questions]


def _is_right(label: Node) -> bool:
    if label.value not in (0, 1) or not isinstance(label.value, int):
        raise label.error(f"expected 0, 1, or a truth value, found {label.value!r:.60}")
    return bool(label.value)
