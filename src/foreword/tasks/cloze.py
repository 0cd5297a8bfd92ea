"""Cloze questions: a text inside a template, and the place where one word answers.

Source: Schick & Schütze 2021, 'Exploiting Cloze Questions for Few Shot Text Classification and Natural
Language Inference', section 3 (pattern and verbalizer). The text is truncated, never the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreword.data.batching import Encoded
from foreword.errors import TaskError
from foreword.heads import Vocabulary
from foreword.tasks.base import Encoding
from foreword.tasks.labels import check_label
from foreword.tasks.templates import FIELD, template_fields
from foreword.tasks.truncation import longest_first

_FIELDS = ("text", "pair", "mask")
_ANSWER = "mask"
_PROBE = "x."
"""Stands for a text when words are looked up: its last character binds to no word."""


class Cloze:
    """A template such as "{text} It was {mask}.", or for decoders "{text} Sentiment:".

    White space in front of an answer belongs to the answer, as in most tokenizers: the mask replaces it
    together with the word, and the template of a decoder ends before it.

    Args:
        template: with {text}, {pair} for the second text of a pair, and {mask} where the word is missing;
            without {mask} the word is the one that comes next.

    Raises:
        ValueError: a field is unknown, missing, or there twice.
    """

    def __init__(self, template: str) -> None:
        found = template_fields(template, _FIELDS)
        if "text" not in found:
            raise ValueError("expected {text} where the text goes")
        self.masked = _ANSWER in found
        self.paired = "pair" in found
        before, _, after = template.partition(f"{{{_ANSWER}}}")
        question = before.rstrip() if self.masked else before.rstrip(" ")
        self._space = before[len(question) :] if self.masked else "" if question[-1].isspace() else " "
        self._template = f"{question}{{{_ANSWER}}}{after}"

    def encode(self, texts: Mapping[str, str], targets: Mapping[str, int], tokenizer: Any, max_length: int) -> Encoding:
        """One row of at most ``max_length`` tokens; the longer of two texts loses its end first.

        Mask tokens that a text itself holds are left out, and so are special tokens that would stand between a
        decoder and its answer.

        Args:
            texts: "text" and, where the template has it, "pair".
            targets: of the row.
            tokenizer: a fast one.
            max_length: most tokens, special ones included.

        Raises:
            TaskError: the template alone is too long, or the tokenizer has no mask token.
        """
        stripped = {name: text.strip() for name, text in texts.items()}
        filled, spans = self._fill(stripped, mask_token(tokenizer) if self.masked else "")
        parts = _tokens(filled, tokenizer)
        ids, offsets, special = parts["input_ids"], parts["offset_mapping"], parts["special_tokens_mask"]
        kept = [i for i in range(len(ids)) if not self._strays(ids[i], offsets[i], spans[_ANSWER], tokenizer)]
        while not self.masked and len(kept) > 1 and special[kept[-1]]:
            kept.pop()
        over = len(kept) - max_length
        cuttable = [[i for i in kept if not special[i] and _inside(offsets[i], spans[name])] for name in texts]
        if over > 0 and over >= sum(map(len, cuttable)):
            raise TaskError(
                f"task.template: leaves no room to the text in a row of {max_length} tokens. Shorten the template, "
                "or raise training.max_length"
            )
        dropped = longest_first(cuttable, over)
        kept = [i for i in kept if i not in dropped]
        types = parts.get("token_type_ids")
        row = Encoded(
            input_ids=[ids[i] for i in kept],
            token_type_ids=None if types is None else [types[i] for i in kept],
            targets=targets,
        )
        return Encoding((row,), "truncated" if dropped else None)

    def check_backbone(self, backbone: Vocabulary) -> None:
        """Refuse a language model that does not answer such a template.

        Raises:
            TaskError: the template has a mask and the model none, or the other way round.
        """
        if self.masked:
            mask_token(backbone.tokenizer)
        if backbone.kind != ("encoder" if self.masked else "decoder"):
            wants = {
                "encoder": "expected {mask} in it, where an encoder answers",
                "decoder": "has {mask}; decoders answer at its end",
            }
            raise TaskError(
                f"task.template: {wants.get(backbone.kind, 'is for encoders and decoders')} "
                f"('{backbone.name}' is of kind '{backbone.kind}')"
            )

    def answers(self, words: Mapping[str, str], tokenizer: Any) -> dict[str, int]:
        """Label -> the one token that its word is in the template.

        Raises:
            TaskError: a word is several tokens or none, or the same as another label's.
        """
        owners: dict[int, str] = {}
        for label, word in words.items():
            try:
                token = self._answer(word, tokenizer)
            except ValueError as error:
                said = f"the word '{word}' of label '{label}' {error}. Choose another word"
                raise TaskError(f"task.verbalizer: {said}") from error
            if token in owners:
                raise TaskError(f"task.verbalizer: labels '{owners[token]}' and '{label}' have the same word, '{word}'")
            owners[token] = label
        return {label: token for token, label in owners.items()}

    def _answer(self, word: str, tokenizer: Any) -> int:
        filled, spans = self._fill({"text": _PROBE, "pair": _PROBE}, self._space + word)
        start, end = spans[_ANSWER]
        parts = _tokens(filled, tokenizer)
        found = zip(parts["input_ids"], parts["offset_mapping"], parts["special_tokens_mask"], strict=True)
        pieces = [(id, a, b) for id, (a, b), special in found if not special and a < end and (a >= start or b > start)]
        ids = [id for id, _, _ in pieces]
        if not pieces or tokenizer.unk_token_id in ids:
            raise ValueError("is not in the vocabulary")
        if len(pieces) > 1 or pieces[0][1] < start or pieces[0][2] != end:
            names = tokenizer.convert_ids_to_tokens(ids)
            raise ValueError(f"is not one token in its place but {' + '.join(map(repr, names))}")
        return int(ids[0])

    def _fill(self, texts: Mapping[str, str], answer: str) -> tuple[str, dict[str, tuple[int, int]]]:
        """The template with its fields filled in, and the characters of each of them."""
        filled, spans, end = "", {}, 0
        values = {**texts, _ANSWER: answer}
        for match in FIELD.finditer(self._template):
            filled += self._template[end : match.start()]
            spans[match[1]] = (len(filled), len(filled) + len(values[match[1]]))
            filled += values[match[1]]
            end = match.end()
        return filled + self._template[end:], spans

    def _strays(self, id: int, span: tuple[int, int], answer: tuple[int, int], tokenizer: Any) -> bool:
        """Whether a token is a mask that is not the template's."""
        return self.masked and id == tokenizer.mask_token_id and not (span[0] < answer[1] and span[1] > answer[0])


def check_words(words: Mapping[str, str], labels: Sequence[str] | None, *, every: bool) -> None:
    """Refuse words that are none, words of labels that are not there, and labels without a word.

    Args:
        words: label -> word.
        labels: None while they are not known.
        every: whether every label needs a word.

    Raises:
        ValueError: naming the first such label.
    """
    for label, word in words.items():
        if not word or word != word.strip():
            raise ValueError(f"the word of label '{label}' is {word!r}; expected one without white space around it")
        if labels is not None:
            check_label(label, labels)
    if every and (missing := [label for label in labels or () if label not in words]):
        raise ValueError(f"label '{missing[0]}' has no word")


def mask_token(tokenizer: Any) -> str:
    """The text of a tokenizer's mask.

    Raises:
        TaskError: it has none.
    """
    if tokenizer.mask_token is None:
        raise TaskError(
            "task.template: has {mask}, but the tokenizer of this backbone has no mask token. Leave {mask} out for a "
            "decoder, which answers with the word that comes next; otherwise use task.head = 'pooled'"
        )
    return str(tokenizer.mask_token)


def _tokens(text: str, tokenizer: Any) -> Any:
    return tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)


def _inside(span: tuple[int, int], field: tuple[int, int]) -> bool:
    return field[0] <= span[0] and span[1] <= field[1]
