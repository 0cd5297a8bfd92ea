"""Questions with a gap that one of the passage's entities fills.

Source: Zhang et al. 2018 (ReCoRD), in the files of SuperGLUE (Wang et al. 2019). Rows are those of Liu et al. 2022,
but entities are ranked by their probability and not by one of two raw scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, ClassVar

from foreword.data.examples import ChoiceQuestion, PassageExample
from foreword.data.nodes import Node
from foreword.data.records import Record
from foreword.metrics.qa import answer_scores
from foreword.metrics.scores import Scores
from foreword.tasks.base import Columns
from foreword.tasks.making.candidates import CandidatesPrediction, CandidatesTask

GAP = "@placeholder"
_HIGHLIGHT, _BULLET = "@highlight\n", "- "


class ReCoRDColumns(Columns):
    """Which fields hold what."""

    passage: str = "passage"
    """An object {"text", "entities": [{"start", "end"}]}; 'end' is an entity's last character."""
    questions: str = "qas"
    """A list of {"query", "answers": [{"text"}]}; a query holds '@placeholder'."""
    id: str = "idx"
    """A name for the passage and for each question, if the data has one."""


class ReCoRD(CandidatesTask):
    """Fill the gap in a sentence about a passage with one of the passage's entities."""

    name: ClassVar[str] = "record"
    summary: ClassVar[str] = "the entity of a passage that fills the gap in a query, as in ReCoRD; F1, exact match"

    columns: ReCoRDColumns = ReCoRDColumns()
    """Names of the fields in the user's files."""

    def read_passage(self, record: Record, number: int, *, labelled: bool) -> PassageExample:
        """A passage with its queries, each with the passage's distinct entities as candidates."""
        passage, name = record.node(self.columns.passage), str(record.get(self.columns.id, number))
        text = passage.get("text").text()
        entities = tuple(dict.fromkeys(_entity(entity, text) for entity in passage.get("entities").some()))
        return PassageExample(
            id=name,
            passage=text.replace(_HIGHLIGHT, _BULLET),
            questions=tuple(
                self._question(question, f"{name}-{place}", entities, labelled)
                for place, question in enumerate(record.node(self.columns.questions).some())
            ),
        )

    def _question(self, question: Node, name: str, entities: tuple[str, ...], labelled: bool) -> ChoiceQuestion:
        query = question.get("query")
        if GAP not in query.text():
            raise query.error(f"expected '{GAP}' in it, where an entity is missing")
        answers = None
        if labelled or question.has("answers"):
            answers = tuple(answer.get("text").text() for answer in question.get("answers").some())
        return ChoiceQuestion(
            id=question.name(self.columns.id, name),
            text=query.text(),
            candidates=entities,
            right=None if answers is None else tuple(entity in answers for entity in entities),
            answers=answers,
        )

    def statement(self, question: ChoiceQuestion, candidate: str) -> str:
        """The query with its gap filled."""
        return question.text.replace(GAP, candidate)

    def score(self, examples: Sequence[PassageExample], predictions: Sequence[CandidatesPrediction]) -> Scores:
        """Exact match and F1 as SQuAD has them, each the best over a query's answers."""
        questions = chain.from_iterable(example.questions for example in examples)
        chosen = chain.from_iterable(map(_chosen, examples, predictions))
        return answer_scores([question.answers or () for question in questions], [text for text, _ in chosen])

    def to_json(self, example: PassageExample, prediction: CandidatesPrediction) -> dict[str, Any]:
        """Per query, the entity that fills its gap."""
        questions = [
            {"id": question.id, "query": question.text, "answer": text, "probability": round(probability, 6)}
            for question, (text, probability) in zip(example.questions, _chosen(example, prediction), strict=True)
        ]
        return {"id": example.id, "questions": questions}

    def answer_key(self, prediction: CandidatesPrediction) -> str:
        """Which of the passage's entities are chosen, by their numbers."""
        return " ".join(str(max(range(len(p)), key=p.__getitem__) + 1) for p in prediction.probabilities)


def _chosen(example: PassageExample, prediction: CandidatesPrediction) -> list[tuple[str, float]]:
    """Per question, the most probable candidate and its probability; the first of equals."""
    pairs = zip(example.questions, prediction.probabilities, strict=True)
    return [max(zip(q.candidates, p, strict=True), key=lambda choice: choice[1]) for q, p in pairs]


def _entity(entity: Node, text: str) -> str:
    start, end = (int(entity.get(side).expect(int).value) for side in ("start", "end"))
    found = text[start : end + 1]
    if not 0 <= start <= end < len(text) or not found.strip():
        raise entity.error(f"characters {start} to {end} are no entity of the passage, which has {len(text)}")
    return found
