"""What a task is: a vertical slice of a few verbs that never learns that prompts exist.

    records --read--> examples --encode--> rows --(backbone, head)--> logits
    logits  --decode--> predictions --score--> Scores

A task is a frozen pydantic model, so the same class is the recipe's ``[task]`` table, the Python
API's constructor, and what an artifact records, the labels found in the data among it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, field_validator
from torch import Tensor

from foreword.data.batching import IGNORED, Encoded
from foreword.data.records import Record
from foreword.errors import TaskError
from foreword.heads import Head, Vocabulary
from foreword.metrics.scores import Scores

ExampleT = TypeVar("ExampleT")
PredictionT = TypeVar("PredictionT")


class Columns(BaseModel):
    """Base of the ``[task.columns]`` tables: our name for a field -> the user's name for it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Encoding:
    """One example as rows for the backbone.

    Attributes:
        rows: one, or several windows.
        note: what had to be done to make it fit ("truncated", "windowed", ...), counted and reported.
    """

    rows: tuple[Encoded, ...]
    note: str | None = None


class Task(BaseModel, Generic[ExampleT, PredictionT]):
    """Settings and behaviour of one kind of task.

    Attributes:
        name: the word for it in recipes and artifacts.
        summary: one line for `foreword tasks`.
        first_defaults: what settings were by default when they came, or stood for before, as for methods.
        labels: class or type names in the order of the head's outputs; found from the data if None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def __class_getitem__(cls, types: Any) -> type[Self]:
        """The class itself: examples and predictions are in no field, and a model for each pair takes long to make."""
        del types
        return cls

    name: ClassVar[str]
    summary: ClassVar[str]
    first_defaults: ClassVar[Mapping[str, Any]] = {}
    together: ClassVar[bool] = False
    """Whether the rows of one example must stand in one batch, because their logits are compared in the loss."""

    labels: tuple[str, ...] | None = None
    """Label names, in the order of the head's outputs. Found from the training data when left out."""

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for label, count in Counter(labels or ()).items():
            if count > 1:
                raise ValueError(f"'{label}' comes twice")
        return labels

    @abstractmethod
    def read(self, records: Iterable[Record], *, labelled: bool, first: int = 0) -> list[ExampleT]:
        """Check records and understand them.

        Args:
            records: as a reader gives them.
            labelled: whether labels must be there (training, evaluation) or may be missing.
            first: number of the first record; the number is the id of an example that brings none.

        Raises:
            DataError: naming file, line and field.
        """

    def with_labels_from(self, examples: Sequence[ExampleT]) -> Self:
        """The same task with its labels found from training examples, where it has any."""
        del examples
        return self

    def with_vocabulary(self, vocabulary: Vocabulary) -> Self:
        """The same task with the words it answers with, where it takes them from a backbone's vocabulary.

        Raises:
            BackboneError, TaskError: the backbone has none, or one that does not fit the settings.
        """
        del vocabulary
        return self

    def check_labels(self, records: Sequence[Record], examples: Sequence[ExampleT]) -> None:
        """Refuse labelled examples whose labels this task does not know.

        Raises:
            DataError: naming the first such example and all unknown labels.
        """
        del records, examples

    def suited_to(self, backbone: Vocabulary) -> Self:
        """The same task with what its texts must look like for a backbone of this kind."""
        del backbone
        return self

    @abstractmethod
    def encode(self, example: ExampleT, tokenizer: Any, max_length: int) -> Encoding:
        """Rows of at most ``max_length`` tokens, with targets where the example has labels."""

    @property
    def needs_language_model(self) -> bool:
        """Whether the head reads the vocabulary of a language model."""
        return False

    @abstractmethod
    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> Head:
        """A fresh head for this task.

        Args:
            hidden_size: D.
            vocabulary: of the backbone, for heads that read it.

        Raises:
            BackboneError, TaskError: the head does not fit the backbone.
        """

    @abstractmethod
    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Mean loss in nats over the targets that count."""

    def weight(self, targets: Mapping[str, Tensor]) -> int:
        """How many targets the loss of a batch is a mean over."""
        return sum(int((target != IGNORED).sum()) for target in targets.values())

    @abstractmethod
    def decode(self, example: ExampleT, rows: Sequence[Encoded], logits: Sequence[Tensor]) -> PredictionT:
        """What the logits of an example's rows say.

        Args:
            example: as read.
            rows: its encoded rows.
            logits: per row, without padding: ``(C,)`` or ``(T, C)``, float32 on the CPU.
        """

    def settle(self, examples: Sequence[ExampleT], predictions: Sequence[PredictionT]) -> Self:
        """The same task with what is to be chosen on development data, such as a threshold.

        Predictions do not depend on what is chosen here; `score` and `to_json` apply it.

        Args:
            examples: labelled development examples.
            predictions: one per example.
        """
        del examples, predictions
        return self

    @abstractmethod
    def score(self, examples: Sequence[ExampleT], predictions: Sequence[PredictionT]) -> Scores:
        """The task's official metric over labelled examples."""

    @abstractmethod
    def to_json(self, example: ExampleT, prediction: PredictionT) -> dict[str, Any]:
        """A prediction as one line of `foreword predict`."""

    def candidates(self, example: ExampleT, prediction: PredictionT) -> list[dict[str, Any]]:
        """The answers that came nearest, the most probable first, for `foreword predict --candidates`.

        Raises:
            TaskError: this task has no other answers to tell than the one it gives.
        """
        del example, prediction
        raise TaskError(f"task '{self.name}' has no candidates to list. Leave --candidates out")

    def told(self, example: ExampleT, prediction: PredictionT, candidates: int = 0) -> dict[str, Any]:
        """What `to_json` says, and where some are wanted so many `candidates`, the best first, under that name.

        Raises:
            TaskError: candidates are wanted, and this task has none.
        """
        answer = self.to_json(example, prediction)
        if candidates:
            answer["candidates"] = self.candidates(example, prediction)[:candidates]
        return answer

    @abstractmethod
    def answer_key(self, prediction: PredictionT) -> str:
        """What 'the same answer' means, for the warning about constant predictions."""
