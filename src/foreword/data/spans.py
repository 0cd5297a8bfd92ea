"""Tags and spans: reading tag schemes, writing them, and cutting a text in words.

Three schemes are known. ``X`` stands for a type such as ``PER``; ``O`` is outside everywhere.

* ``IOB1`` (Ramshaw and Marcus, 1995; the files of CoNLL-2003): a word of an entity is ``I-X``; ``B-X``
  is only for the first word of an entity that directly follows another one of the same type.
* ``IOB2`` (Ratnaparkhi, 1998): every entity begins with ``B-X`` and goes on with ``I-X``.
* ``BIOES`` (also BILOU, IOBES): ``S-X`` is an entity of one word; a longer one is ``B-X I-X ... E-X``.

Read strictly, as here, each scheme writes a list of entities in exactly one way, and no sequence with
an entity in it is valid in two of them. That is why a scheme can be detected and not just guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import regex

from foreword.data.examples import Entity, Span

SCHEMES = ("IOB1", "IOB2", "BIOES")

# IOB2 first: it is what sequences without any entity, valid in every scheme, are said to be.
_DETECTION_ORDER = ("IOB2", "IOB1", "BIOES")

_PREFIXES = {"IOB1": "BI", "IOB2": "BI", "BIOES": "BIES"}

_WORD = regex.compile(
    r"""
      [\p{L}\p{N}][\p{L}\p{N}\p{M}\p{Join_Control}]*  # letters and digits with their marks and joiners
    | \p{Grapheme_Cluster_Break=Prepend}              # alone, for its cluster may hold white space
    | (?![\s\x1c-\x1f])\X                             # what a reader sees as one other character
    """,
    regex.VERBOSE,
)


class TagError(ValueError):
    """A sequence of tags that is not valid in its scheme.

    Attributes:
        index: 0-based position in its sequence of the tag that is wrong.
        sequence: 0-based number of the sequence, where several were read; else None.
    """

    def __init__(self, message: str, *, index: int, sequence: int | None = None) -> None:
        self.index, self.sequence = index, sequence
        super().__init__(message)


class _Tag(NamedTuple):
    prefix: str
    type: str


_OUTSIDE = _Tag("O", "")


def tags_to_entities(tags: Sequence[str], scheme: str) -> tuple[Entity, ...]:
    """The entities, as spans over words, that a valid sequence of tags stands for.

    Strict: in IOB1 a ``B-X`` that does not follow a word of type ``X`` is refused (there ``I-X`` is the
    one way to write it), in IOB2 an ``I-X`` that continues nothing, in BIOES an ``I-X`` or ``E-X`` that
    continues nothing and a ``B-X`` or ``I-X`` that nothing continues.

    Args:
        tags: one tag per word, such as ``O`` or ``B-PER``; a type may itself hold hyphens.
        scheme: one of `SCHEMES`.

    Raises:
        TagError: the sequence is not valid in the scheme; names the tag and the one before it.
        ValueError: the scheme is unknown.
    """
    _check_scheme(scheme)
    parsed = [_parse(tags, index, scheme) for index in range(len(tags))]
    before = _OUTSIDE
    for index, tag in enumerate([*parsed, _OUTSIDE]):
        if not _may_follow(before, tag, scheme):
            raise _misplaced(tags, index, scheme)
        before = tag
    return _chunks(parsed)


def entities_to_tags(entities: Iterable[Entity], length: int, scheme: str) -> list[str]:
    """One tag per word for entities given, in any order, as spans over words.

    Args:
        entities: typed spans, not empty, not overlapping, inside ``[0, length)``.
        length: number of words.
        scheme: one of `SCHEMES`.

    Raises:
        ValueError: a span is empty, has no type, is out of range or overlaps another one, or the
            scheme is unknown.
    """
    _check_scheme(scheme)
    tags = ["O"] * length
    before = Entity(0, 0, "")
    for entity in sorted(entities):
        start, end, kind = entity
        if not (0 <= start < end <= length and kind):
            raise ValueError(f"{entity} is not a typed span within {length} words")
        if start < before.end:
            raise ValueError(f"{entity} overlaps {before}")
        touches = start == before.end and kind == before.type
        prefixes = _entity_prefixes(end - start, scheme, touches=touches)
        tags[start:end] = [f"{prefix}-{kind}" for prefix in prefixes]
        before = entity
    return tags


def repair_entities(tags: Sequence[str]) -> tuple[Entity, ...]:
    """The entities in *predicted* IOB2 tags, which need not be a valid sequence.

    Chunks start and end as in the ``conlleval`` script of the CoNLL-2000 shared task: ``B-X`` always
    begins an entity, ``I-X`` begins one unless the word before has the type ``X``, and an entity ends
    where the next begins, where its type changes, and before ``O``.

    Raises:
        TagError: a tag is none of ``O``, ``B-X`` and ``I-X``.
    """
    return _chunks([_parse(tags, index, "IOB2") for index in range(len(tags))])


def detect_scheme(tag_sequences: Iterable[Sequence[str]]) -> str:
    """The one scheme of `SCHEMES` in which all sequences are valid.

    There is at most one as soon as a single entity occurs (see the module's text); without any, the
    answer is ``IOB2``. Sequences are read once, so a generator will do.

    Raises:
        TagError: no scheme fits; tells about the scheme that fitted longest.
    """
    schemes = list(_DETECTION_ORDER)
    for number, tags in enumerate(tag_sequences):
        errors: list[TagError] = []
        fitting: list[str] = []
        for scheme in schemes:
            try:
                tags_to_entities(tags, scheme)
            except TagError as error:
                errors.append(error)
            else:
                fitting.append(scheme)
        if not fitting:
            nearest = max(errors, key=lambda error: error.index)
            raise TagError(
                f"sequence {number + 1} fits no tag scheme that fits those before it: {nearest}",
                index=nearest.index,
                sequence=number,
            )
        schemes = fitting
    return schemes[0]


def word_spans(text: str) -> tuple[Span, ...]:
    """Character spans of the words of ``text``, in order; they cover all but the white space.

    A word is a run of letters and digits, with the combining marks and joiners inside it; any other
    visible character is a word by itself, apostrophes and hyphens too (``don't`` is three words). What
    a reader sees as one character, such as an emoji with a skin tone or a flag, is never cut (extended
    grapheme clusters of Unicode Standard Annex 29). White space is what ``str.isspace`` says.
    """
    return tuple(Span(*match.span()) for match in _WORD.finditer(text))


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"unknown tag scheme {scheme!r}; known: {', '.join(SCHEMES)}")


def _parse(tags: Sequence[str], index: int, scheme: str) -> _Tag:
    if tags[index] == "O":
        return _OUTSIDE
    prefix, _, kind = tags[index].partition("-")
    if len(prefix) != 1 or prefix not in _PREFIXES[scheme] or not kind:
        forms = ", ".join(f"{known}-X" for known in _PREFIXES[scheme])
        raise TagError(f"{_where(tags, index)} is no tag of {scheme} (O, {forms})", index=index)
    return _Tag(prefix, kind)


def _joined(before: _Tag, tag: _Tag) -> bool:
    """Whether two neighbouring words are in one entity; the same question in every scheme."""
    return before.prefix in "BI" and tag.prefix in "IE" and before.type == tag.type


def _may_follow(before: _Tag, tag: _Tag, scheme: str) -> bool:
    joined = _joined(before, tag)
    if scheme == "IOB1":
        return tag.prefix != "B" or before.type == tag.type
    if scheme == "IOB2":
        return joined or tag.prefix != "I"
    return joined or not (before.prefix in "BI" or tag.prefix in "IE")


def _misplaced(tags: Sequence[str], index: int, scheme: str) -> TagError:
    if index == len(tags):
        return TagError(f"{_where(tags, index - 1)} ends the sequence, not allowed in {scheme}", index=index - 1)
    return TagError(f"{_where(tags, index)} is not allowed there in {scheme}", index=index)


def _where(tags: Sequence[str], index: int) -> str:
    place = f"after '{tags[index - 1]}'" if index else "at the start"
    return f"tag {index + 1}, '{tags[index]}' {place},"


def _chunks(tags: Sequence[_Tag]) -> tuple[Entity, ...]:
    entities: list[Entity] = []
    before, start = _OUTSIDE, 0
    for index, tag in enumerate([*tags, _OUTSIDE]):
        if not _joined(before, tag):
            if before != _OUTSIDE:
                entities.append(Entity(start, index, before.type))
            start = index
        before = tag
    return tuple(entities)


def _entity_prefixes(length: int, scheme: str, *, touches: bool) -> str:
    """Prefixes of one entity; ``touches``: the one before has the same type and ends right there."""
    if scheme == "BIOES":
        return "S" if length == 1 else "B" + "I" * (length - 2) + "E"
    return ("B" if scheme == "IOB2" or touches else "I") + "I" * (length - 1)
