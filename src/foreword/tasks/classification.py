"""Classification of single texts and of text pairs.

Source: Liu et al. 2022, section 3.3 ('Classification Head') and table 4: a randomly initialized head
on the encoder's output, or a language model's own head and a verbalizer. Learned verbalizers are of
Hambardzumyan et al. 2021 (WARP), section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator

from foreword.data.examples import TextExample
from foreword.data.records import Record
from foreword.errors import TaskError
from foreword.heads import Head, LearnedVerbalizerHead, VerbalizerHead, Vocabulary, class_vectors
from foreword.tasks.base import Encoding
from foreword.tasks.making.cloze import Cloze, check_words
from foreword.tasks.making.labels import LabelTask
from foreword.tasks.making.pooled import Pooled
from foreword.tasks.making.texts import encode_texts


class _Reading(LabelTask[TextExample]):
    """What the head reads: hidden states, or the words of a language model. Its settings come before those of heads."""

    head: Literal["pooled", "verbalizer", "learned-verbalizer"] = "pooled"
    """A class head on 'pooled' hidden states; or of a language model, its logits of one word per label
    ('verbalizer', nothing trained), or trained vectors in the place of those words ('learned-verbalizer')."""
    template: str | None = Field(default=None, validate_default=True)
    """For verbalizers: '{text}', and '{pair}' if there is one, with words around, such as '{text} It was {mask}.';
    decoders answer with the word after the template's end, so theirs has no '{mask}'."""
    verbalizer: dict[str, str] | None = Field(default=None, validate_default=True)
    """For verbalizers: label -> word, one token each. Learned ones start there, or at random for labels left out."""

    @field_validator("template")
    @classmethod
    def _template_fits(cls, template: str | None, info: ValidationInfo) -> str | None:
        if "head" not in info.data or "columns" not in info.data:
            return template  # what is wrong with those is told already
        head, paired = info.data["head"], info.data["columns"].pair is not None
        if head == "pooled" and template is not None:
            raise ValueError("is for verbalizers; with head = 'pooled' the text stands alone")
        if head != "pooled" and template is None:
            raise ValueError(f"is needed with head = '{head}', such as '{{text}} It was {{mask}}.'")
        if template is not None and Cloze(template).paired != paired:
            raise ValueError(
                "expected {pair} for the second text" if paired else "{pair} needs its field, columns.pair"
            )
        return template

    @field_validator("verbalizer")
    @classmethod
    def _verbalizer_fits(cls, words: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        if "head" not in info.data or "labels" not in info.data:
            return words
        head, labels = info.data["head"], info.data["labels"]
        if head == "pooled" and words is not None:
            raise ValueError("is for verbalizers; with head = 'pooled' no words are compared")
        if head == "verbalizer" and not words:
            raise ValueError("is needed with head = 'verbalizer': a word for every label")
        check_words(words or {}, labels, every=head == "verbalizer")
        return words

    @property
    def cloze(self) -> Cloze | None:
        """The template, where words are read."""
        return None if self.template is None else Cloze(self.template)

    @property
    def needs_language_model(self) -> bool:
        """Whether the head reads the vocabulary."""
        return self.head != "pooled"


class Classification(Pooled, _Reading):
    """One label per text, or per pair of texts."""

    name: ClassVar[str] = "classification"
    summary: ClassVar[str] = "one label for a text or a pair of texts; accuracy, F1"

    @field_validator(*Pooled.model_fields)
    @classmethod
    def _has_a_meaning(cls, value: Any, info: ValidationInfo) -> Any:
        head, name = info.data.get("head"), info.field_name or ""
        idle = head == "verbalizer" or (head == "learned-verbalizer" and name != "dropout")
        if idle and value != cls.model_fields[name].default:
            raise ValueError(f"has no meaning with head = '{head}'; leave it out")
        return value

    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[TextExample]:
        """One example per record."""
        return [self._example(number, record, labelled) for number, record in enumerate(records, first)]

    def _example(self, number: int, record: Record, labelled: bool) -> TextExample:
        label = self.read_label(record, labelled=labelled)
        return TextExample(**self.columns.texts(record, number), label=label)

    def with_labels_from(self, examples: Sequence[TextExample]) -> Self:
        """All labels that occur, sorted; numbers by value."""
        found = super().with_labels_from(examples)
        try:
            check_words(self.verbalizer or {}, found.labels, every=self.head == "verbalizer")
        except ValueError as error:
            raise TaskError(f"task.verbalizer: {error}") from error
        return found

    def encode(self, example: TextExample, tokenizer: Any, max_length: int) -> Encoding:
        """One row; a text that is too long loses its end, the longer of a pair first."""
        targets = self.label_targets(example.label)
        if (cloze := self.cloze) is not None:
            named = {"text": example.text} | ({} if example.pair is None else {"pair": example.pair})
            return cloze.encode(named, targets, tokenizer, max_length)
        return encode_texts(example.texts, targets, tokenizer, max_length)

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """One output per label, out of pooled hidden states or of what a language model says in the template's gap.

        Raises:
            BackboneError: the head reads a vocabulary or all layers, and the backbone has none.
            TaskError: template or words do not fit the backbone.
        """
        labels, cloze = self.labels or (), self.cloze
        if cloze is None:
            return self.pooled_head(hidden_size, len(labels), vocabulary)
        model = cloze.check_backbone(vocabulary, f"task.head = '{self.head}'")
        answers = cloze.answers(self.verbalizer or {}, model.tokenizer)
        if self.head == "verbalizer":
            return VerbalizerHead([answers[label] for label in labels])
        start = class_vectors([answers.get(label) for label in labels], model.output_embeddings)
        return LearnedVerbalizerHead(start, dropout=self.dropout)
