"""Propositions in columns as in CoNLL-2005: predicates, and brackets around their roles."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from foreword.data.examples import Entity
from foreword.data.readers.base import ReadOptions
from foreword.data.readers.columns import Row, cell, read_sentences
from foreword.data.records import Record
from foreword.data.spans import entities_to_tags
from foreword.errors import DataError

FIXED = ("token", "POS", "lemma", "roleset")
"""The columns before those of the roles."""
NONE = "-"
"""In the columns of lemmas and rolesets: no predicate."""

_BRACKETS = re.compile(r"(?:\((?P<role>[^()*\s]+))?\*(?P<close>\)?)")


def read_props(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream one record per predicate; a sentence without any gives none.

    Columns are set apart by tabs: token, part of speech, the predicate's lemma and its roleset (both ``-`` where
    there is no predicate), then one column per predicate of the sentence, in their order, in which
    ``(ARG0*`` opens a role, ``*)`` closes it, ``(ARG0*)`` is one of a single token, and ``*`` is neither.

    Fields: ``tokens``; ``predicate``, its 0-based number among them; ``lemma`` and ``roleset``; ``tags``, IOB2
    tags of its roles; ``lines``, 1-based line numbers of the tokens. The record's line is the predicate's.

    Raises:
        DataError: the file cannot be read, a line has another number of columns than its sentence has
            predicates, or brackets do not fit together; names line and column.
    """
    for sentence in read_sentences(file, options.separator or "\t"):
        predicates = _predicates(sentence, file)
        shared = {
            "tokens": [cell(row, 0, FIXED[0], file) for row in sentence],
            "lines": [row.line for row in sentence],
        }
        for number, predicate in enumerate(predicates):
            row = sentence[predicate]
            fields = {
                **shared,
                "predicate": predicate,
                "lemma": row.columns[2],
                "roleset": row.columns[3],
                "tags": entities_to_tags(_roles(sentence, len(FIXED) + number, file), len(sentence), "IOB2"),
            }
            yield Record(fields, file, row.line)


def _predicates(sentence: Sequence[Row], file: str) -> list[int]:
    """Numbers of the tokens that are predicates, after a look at the width of every row."""
    for row in sentence:
        if len(row.columns) < len(FIXED):
            raise DataError(
                f"found {len(row.columns)} columns, expected at least {len(FIXED)} ({', '.join(FIXED)})",
                file=file,
                line=row.line,
                hint="Columns are set apart by tabs; set [data] separator if yours are not",
            )
    found = [number for number, row in enumerate(sentence) if cell(row, 2, FIXED[2], file) != NONE]
    width = len(FIXED) + len(found)
    for row in sentence:
        if len(row.columns) != width:
            raise DataError(
                f"found {len(row.columns)} columns, expected {width}: {len(FIXED)} and one for each of the "
                f"{len(found)} predicates of this sentence",
                file=file,
                line=row.line,
            )
    return found


def _roles(sentence: Sequence[Row], column: int, file: str) -> list[Entity]:
    """The roles in one column, as spans over the sentence's tokens."""
    roles: list[Entity] = []
    role, start = "", 0

    def wrong(row: Row, problem: str) -> DataError:
        return DataError(problem, file=file, line=row.line, field=f"column {column + 1}")

    for number, row in enumerate(sentence):
        found = _BRACKETS.fullmatch(row.columns[column])
        if found is None:
            raise wrong(row, f"expected *, *), (ROLE* or (ROLE*), found {row.columns[column]!r:.60}")
        if found["role"]:
            if role:
                raise wrong(row, f"({found['role']} opens inside of ({role}, which nothing has closed")
            role, start = found["role"], number
        if found["close"]:
            if not role:
                raise wrong(row, "closes a role that nothing has opened")
            roles.append(Entity(start, number + 1, role))
            role = ""
    if role:
        raise wrong(sentence[start], f"({role} is not closed by the end of its sentence")
    return roles
