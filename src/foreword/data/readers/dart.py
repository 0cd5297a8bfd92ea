"""DART: sets of triples and their texts, in JSON (Nan et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from foreword.data.nodes import kind
from foreword.data.readers.base import ReadOptions, read_json
from foreword.data.readers.triples import triples_text
from foreword.data.records import Record
from foreword.errors import DataError


def read_dart(file: str, options: ReadOptions) -> Iterator[Record]:
    """One record per set of triples; its ``line`` is its 1-based number in the file.

    Fields: ``source``, the triples as Li & Liang 2021 write them (``| s : p : o``), and where the set has texts
    ``target``, the list of all of them.

    Raises:
        DataError: the file cannot be read, is not JSON, or some set has the wrong shape.
    """
    del options
    sets = read_json(file)
    if not isinstance(sets, list):
        raise DataError(f"expected a list of sets of triples, found {kind(sets)}", file=file)
    for number, item in enumerate(sets, start=1):
        yield _record(Record(item, file, number))


def _record(given: Record) -> Record:
    triples = given.value("tripleset")
    if not isinstance(triples, list) or not triples or not all(map(_is_triple, triples)):
        raise given.error("expected a list of [subject, predicate, object], each a text", field="tripleset")
    fields = {"source": triples_text(triples)}
    if "annotations" not in given.fields:
        return Record(fields, given.file, given.line)
    match given.fields["annotations"]:
        case [*annotations] if annotations and all(map(_is_annotation, annotations)):
            targets = [annotation["text"].strip() for annotation in annotations]
            return Record({**fields, "target": targets}, given.file, given.line)
    raise given.error('expected a list of {"source", "text"}', field="annotations")


def _is_triple(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(isinstance(part, str) for part in value)


def _is_annotation(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("text"), str) and bool(value["text"].strip())
