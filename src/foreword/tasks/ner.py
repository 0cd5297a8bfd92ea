"""Named entities as sequence tagging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from foreword.data.examples import WordsExample
from foreword.data.records import Record
from foreword.metrics.scores import Scores
from foreword.metrics.sequence import entity_scores
from foreword.tasks.making.tagging import EntitiesPrediction, Tagging, found_text


class NER(Tagging[WordsExample]):
    """Typed, non-overlapping spans of words."""

    name: ClassVar[str] = "ner"
    summary: ClassVar[str] = "named entities from IOB1, IOB2 or BIOES tags; entity F1 as conlleval"
    kind: ClassVar[str] = "entity type"
    first_defaults: ClassVar[Mapping[str, Any]] = {"decoding": "greedy"}

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[WordsExample]:
        """One example per sentence or text."""
        return [sentence for _, sentence in self.sentences(records, labelled=labelled, first=first)]

    def score(self, examples: Sequence[WordsExample], predictions: Sequence[EntitiesPrediction]) -> Scores:
        """Micro precision, recall and F1 over whole entities."""
        return entity_scores([e.entities or () for e in examples], [p.entities for p in predictions])

    def to_json(self, example: WordsExample, prediction: EntitiesPrediction) -> dict[str, Any]:
        """The text and its entities with character offsets."""
        entities = [
            {
                "type": entity.type,
                **found_text(example, entity.start, entity.end),
                "probability": round(probability, 6),
            }
            for entity, probability in zip(prediction.entities, prediction.probabilities, strict=True)
        ]
        return {"id": example.id, "text": example.text, "entities": entities}
