"""What tasks share whose answers a language model writes: a given text, and behind it one that is wanted.

A decoder reads both in one row, with a separator between them (Li & Liang 2021, section 3, and the format of
their code: source, opening token, target, closing token). An encoder-decoder reads the given text in its
encoder and writes in its decoder. Nothing but the method's parameters is trained: the head is the model's own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self

from pydantic import field_validator
from torch import Tensor
from torch.nn.functional import cross_entropy

from foreword.data.batching import IGNORED, WRITTEN, Encoded
from foreword.errors import BackboneError, TaskError
from foreword.heads import ContinuationHead, Vocabulary
from foreword.metrics.likelihood import Likelihood
from foreword.tasks.base import Encoding, ExampleT, PredictionT, Task
from foreword.tasks.making.template import Template, tokens_of, too_many, without_closing

_APART = ""
"""The separator of a model that reads source and target apart."""


class Written(NamedTuple):
    """A text that a model wrote, and whether it closed the text before there was no more room."""

    text: str
    finished: bool


class WritingTask(Task[ExampleT, PredictionT], Generic[ExampleT, PredictionT]):
    """Settings and behaviour that tasks with written answers share.

    Attributes:
        known_fields: fields of the template, of which the first must be there.
    """

    known_fields: ClassVar[tuple[str, ...]]

    template: str = "{text}"
    """What the model is given: the text in its field, and words around it."""
    separator: str | None = None
    """For decoders: what stands between the given text and the one that is written. The token that opens texts when
    left out; a line break where the tokenizer has none, or opens every row with it. Spaces at its end are written."""
    loss_over: Literal["tokens", "texts"] = "tokens"
    """The loss is a mean over all tokens of a batch, or over its texts, of each the sum of its tokens."""

    @field_validator("template")
    @classmethod
    def _template_is_one(cls, template: str) -> str:
        Template(template, cls.known_fields)
        return template

    @field_validator("separator")
    @classmethod
    def _separates(cls, separator: str | None) -> str | None:
        if separator is not None and not separator.strip(" "):
            raise ValueError("expected something else than spaces")
        return separator

    @property
    @abstractmethod
    def longest(self) -> int:
        """Most tokens that are written, or learned of a target, with the one that closes it."""

    @property
    @abstractmethod
    def search(self) -> Mapping[str, Any]:
        """How a text is searched for: settings of `transformers`, besides how long it may be."""

    @property
    def selects_by_writing(self) -> bool:
        """Whether weights are selected by what is written, which takes a search for every dev example.

        If not, one forward pass tells what the model thinks of the targets.
        """
        return False

    @abstractmethod
    def texts_of(self, example: ExampleT) -> Mapping[str, str]:
        """The template's fields with their texts."""

    @abstractmethod
    def targets_of(self, example: ExampleT) -> Sequence[str]:
        """Texts that are right, any of them; none where the example has no label."""

    @abstractmethod
    def with_text(self, example: ExampleT, prediction: PredictionT, written: Written) -> PredictionT:
        """A prediction that `decode` has made of an example, and what the model wrote."""

    @property
    def needs_language_model(self) -> bool:
        """It writes the answers."""
        return True

    def suited_to(self, backbone: Vocabulary) -> Self:
        """With the separator that stands between source and target on this backbone."""
        if backbone.kind != "decoder":
            if self.separator:
                raise TaskError(
                    f"task.separator: is for decoders; '{backbone.name}' reads source and target apart. Leave it out"
                )
            return self.model_copy(update={"separator": _APART})
        return self.model_copy(update={"separator": self.separator or _usual_separator(backbone.tokenizer)})

    def encode(self, example: ExampleT, tokenizer: Any, max_length: int) -> Encoding:
        """A row for every target, or one without; a source that is too long loses its end, and so does a target."""
        texts = {name: text.strip() for name, text in self.texts_of(example).items()}
        filled, spans = Template(self.template, self.known_fields).fill(texts)
        parts = tokens_of(filled, tokenizer)
        kept, between, room = list(range(len(parts["input_ids"]))), list[int](), max_length
        if self.separator != _APART:
            kept, between = without_closing(parts, kept), self._between(tokenizer)
            room = max_length - len(between) - self.longest
        dropped = too_many(parts, kept, list(spans.values()), room)
        given = [*(parts["input_ids"][i] for i in kept if i not in dropped), *between]
        written = [self._written(target.strip(), tokenizer) for target in self.targets_of(example)]
        notes = ["truncated"] * bool(dropped)
        notes += [f"with a target cut to {self.longest} tokens"] * any(len(ids) > self.longest for ids in written)
        rows = [Encoded(input_ids=given, targets={WRITTEN: self._closed(ids)}) for ids in written]
        return Encoding(tuple(rows) or (Encoded(input_ids=given),), " and ".join(notes) or None)

    def _between(self, tokenizer: Any) -> list[int]:
        """Token ids of the separator, without the spaces at its end."""
        ids: list[int] = tokenizer(self._shown, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    @property
    def _shown(self) -> str:
        return (self.separator or "").rstrip(" ")

    def _written(self, target: str, tokenizer: Any) -> list[int]:
        """Token ids of a target, with the one that closes it."""
        if tokenizer.eos_token_id is None:
            raise TaskError("the tokenizer of this backbone has no token that ends a text (eos_token)")
        if self.separator == _APART:
            ids = tokenizer(target, verbose=False)["input_ids"]
            return [*ids, *[tokenizer.eos_token_id] * (ids[-1:] != [tokenizer.eos_token_id])]
        parts = tokens_of(f"{self.separator}{target}", tokenizer, add_special_tokens=False)
        pairs = list(zip(parts["input_ids"], parts["offset_mapping"], strict=True))
        behind = [id for id, (_, end) in pairs if end > len(self._shown)]
        if [id for id, _ in pairs] != [*self._between(tokenizer), *behind]:
            raise TaskError(
                f"task.separator: the tokenizer takes the end of {self.separator!r} and the text behind it as one "
                f"token ({target!r:.40}). Let it end with a line break or a space"
            )
        return [*behind, tokenizer.eos_token_id]

    def _closed(self, ids: list[int]) -> list[int]:
        return ids if len(ids) <= self.longest else [*ids[: self.longest - 1], ids[-1]]

    def build_head(self, hidden_size: int, vocabulary: Vocabulary | None = None) -> ContinuationHead:
        """The language model's own.

        Raises:
            BackboneError: the backbone writes no text.
        """
        del hidden_size
        name = "this backbone" if vocabulary is None else vocabulary.name
        if vocabulary is None or vocabulary.kind not in ("decoder", "encoder-decoder"):
            raise BackboneError(
                f"{name}: the answers of task '{self.name}' are written by the model. Use a decoder (such as gpt2) or "
                "an encoder-decoder (such as t5)"
            )
        if not vocabulary.language_model:
            raise BackboneError(
                f"{name}: task '{self.name}' needs its language model. Set language_model = true in [backbone], or "
                "load_backbone(..., language_model=True)"
            )
        return ContinuationHead()

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the targets' tokens, ``logits`` is ``(B, U, V)``."""
        total = cross_entropy(
            logits.float().flatten(0, 1), targets[WRITTEN].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        return total / self.weight(targets)

    def weight(self, targets: Mapping[str, Tensor]) -> int:
        """Tokens or texts, as the loss is a mean over."""
        return len(targets[WRITTEN]) if self.loss_over == "texts" else super().weight(targets)


def likelihood_of(logits: Sequence[Tensor]) -> Likelihood:
    """What the model thinks of the targets of one example.

    Args:
        logits: per target ``(U, 2)``, log probabilities in nats and whether a token is the likeliest one. Where
            there is no target, U is 0.
    """
    given = [row for row in logits if len(row)]
    return Likelihood(
        log_probability=float(sum(row[:, 0].double().sum() for row in given)),
        tokens=sum(map(len, given)),
        hits=int(sum(row[:, 1].sum() for row in given)),
        texts=len(given),
        exact=sum(bool(row[:, 1].all()) for row in given),
    )


def _usual_separator(tokenizer: Any) -> str:
    opening = tokenizer.bos_token
    opens = tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]
    return "\n" if opening is None or opens else f" {opening} "
