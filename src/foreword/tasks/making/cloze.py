"""Cloze questions: a text inside a template, and the place where one word answers.

Source: Schick & Schütze 2021, 'Exploiting Cloze Questions for Few Shot Text Classification and Natural
Language Inference', section 3 (pattern and verbalizer). The text is truncated, never the template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foreword.data.batching import Encoded
from foreword.data.examples import Span
from foreword.errors import BackboneError, TaskError
from foreword.heads import Vocabulary
from foreword.tasks.base import Encoding
from foreword.tasks.making.labels import check_label
from foreword.tasks.making.template import Template, tokens_of, too_many, without_closing

_ANSWER = "mask"
_PROBE = "x."
"""Stands for a text when words are looked up: its last character binds to no word."""


class Cloze:
    """A template such as "{text} It was {mask}.", or for decoders "{text} Sentiment:".

    White space in front of an answer belongs to the answer, as in most tokenizers: the mask replaces it
    together with the word, and the template of a decoder ends before it.

    Args:
        template: with the fields, and {mask} where the word is missing; without {mask} the word is the one that
            comes next.
        fields: names of the texts, of which the first must be there: {text}, and {pair} for the second of a pair.

    Raises:
        ValueError: a field is unknown, missing, or there twice.
    """

    def __init__(self, template: str, fields: Sequence[str] = ("text", "pair")) -> None:
        known = (*fields, _ANSWER)
        found = Template(template, known).fields
        self.masked = _ANSWER in found
        self.paired = "pair" in found
        self._fields = tuple(fields)
        before, _, after = template.partition(f"{{{_ANSWER}}}")
        question = before.rstrip() if self.masked else before.rstrip(" ")
        self._space = before[len(question) :] if self.masked else "" if question[-1].isspace() else " "
        self._template = Template(f"{question}{{{_ANSWER}}}{after}", known)

    def encode(self, texts: Mapping[str, str], targets: Mapping[str, int], tokenizer: Any, max_length: int) -> Encoding:
        """One row of at most ``max_length`` tokens; the longer of two texts loses its end first.

        Mask tokens that a text itself holds are left out, and so are special tokens that would stand between a
        decoder and its answer.

        Args:
            texts: one for each field of the template but the mask.
            targets: of the row.
            tokenizer: a fast one.
            max_length: most tokens, special ones included.

        Raises:
            TaskError: the template alone is too long, or the tokenizer has no mask token.
        """
        stripped = {name: text.strip() for name, text in texts.items()}
        filled, spans = self._fill(stripped, mask_token(tokenizer) if self.masked else "")
        parts = tokens_of(filled, tokenizer)
        ids, offsets = parts["input_ids"], parts["offset_mapping"]
        kept = [i for i in range(len(ids)) if not self._strays(ids[i], offsets[i], spans[_ANSWER], tokenizer)]
        if not self.masked:
            kept = without_closing(parts, kept)
        dropped = too_many(parts, kept, [spans[name] for name in texts], max_length)
        kept = [i for i in kept if i not in dropped]
        types = parts.get("token_type_ids")
        row = Encoded(
            input_ids=[ids[i] for i in kept],
            token_type_ids=None if types is None else [types[i] for i in kept],
            targets=targets,
        )
        return Encoding((row,), "truncated" if dropped else None)

    def check_backbone(self, backbone: Vocabulary | None, reader: str) -> Vocabulary:
        """Refuse what does not answer such a template.

        Args:
            backbone: if there is one.
            reader: the setting that wants the answer, for messages.

        Raises:
            BackboneError: it is no language model.
            TaskError: the template has a mask and the model none, or the other way round.
        """
        if backbone is None or not backbone.language_model:
            raise BackboneError(
                f"{'this backbone' if backbone is None else backbone.name}: {reader} needs its language model. Set "
                "language_model = true in [backbone], or load_backbone(..., language_model=True)"
            )
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
        return backbone

    def answers(self, words: Mapping[str, str], tokenizer: Any) -> dict[str, int]:
        """Label -> the one token that its word is in the template.

        Raises:
            TaskError: a word is several tokens or none, or the same as another label's.
        """
        owners: dict[int, str] = {}
        for (label, word), token in zip(words.items(), self.lookup([*words.values()], tokenizer), strict=True):
            if isinstance(token, str):
                raise TaskError(f"task.verbalizer: the word '{word}' of label '{label}' {token}. Choose another word")
            if token in owners:
                raise TaskError(f"task.verbalizer: labels '{owners[token]}' and '{label}' have the same word, '{word}'")
            owners[token] = label
        return {label: token for token, label in owners.items()}

    def lookup(self, words: Sequence[str], tokenizer: Any) -> list[int | str]:
        """Per word the one token that it is in the template, or in words why it is none."""
        if not words:
            return []
        filled = [self._fill(dict.fromkeys(self._fields, _PROBE), self._space + word) for word in words]
        encodings = tokenizer([text for text, _ in filled], verbose=False).encodings
        return [
            _one_token(parts, spans[_ANSWER], tokenizer) for parts, (_, spans) in zip(encodings, filled, strict=True)
        ]

    def vocabulary(self, tokenizer: Any) -> dict[str, int]:
        """Every word that is one token in the template -> that token, special ones left out."""
        tokens = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
        words = [tokenizer.decode([token]).strip() for token in tokens]
        found = zip(words, tokens, self.lookup(words, tokenizer), strict=True)
        return {word: token for word, token, seen in found if word and seen == token}

    def _fill(self, texts: Mapping[str, str], answer: str) -> tuple[str, dict[str, Span]]:
        return self._template.fill({**texts, _ANSWER: answer})

    def _strays(self, id: int, span: tuple[int, int], answer: Span, tokenizer: Any) -> bool:
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


def _one_token(parts: Any, place: Span, tokenizer: Any) -> int | str:
    """The token that fills a place of an encoded text, or what is wrong with it."""
    start, end = place
    found = zip(parts.ids, parts.offsets, parts.special_tokens_mask, strict=True)
    pieces = [(id, a, b) for id, (a, b), special in found if not special and a < end and (a >= start or b > start)]
    ids = [id for id, _, _ in pieces]
    if not pieces or tokenizer.unk_token_id in ids:
        return "is not in the vocabulary"
    if len(pieces) > 1 or pieces[0][1] < start or pieces[0][2] != end:
        return f"is not one token in its place but {' + '.join(map(repr, tokenizer.convert_ids_to_tokens(ids)))}"
    return int(ids[0])
