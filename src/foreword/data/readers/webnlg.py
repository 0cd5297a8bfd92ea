"""WebNLG 2017: entries with triples and their texts, in XML (Gardent et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, fromstring

from foreword.data.readers.base import ReadOptions, read_text
from foreword.data.readers.triples import triples_text
from foreword.data.records import Record
from foreword.errors import DataError


def read_webnlg(file: str, options: ReadOptions) -> Iterator[Record]:
    """One record per entry; its ``line`` is its 1-based number in its file.

    Fields: ``id`` (file and ``eid``), ``category``, ``source``, the modified triples as Li & Liang 2021 write them
    (``| s : p : o``), and where the entry has texts ``target``, the list of all of them.

    Args:
        file: an XML file, or a folder of which all those below are read in the order of their names.
        options: none are used.

    Raises:
        DataError: there is no such file, it is no XML or has a document type, or an entry has no triples.
    """
    del options
    path = Path(file)
    files = sorted(path.rglob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise DataError("no .xml files in this folder", file=file)
    for one in files:
        for number, entry in enumerate(_root(str(one)).iter("entry"), start=1):
            yield _record(entry, one, number)


def _root(file: str) -> Element:
    text = read_text(file)
    if "<!DOCTYPE" in text:  # what could name other files, or a text that grows without end
        raise DataError("has a document type (<!DOCTYPE), which WebNLG files have not", file=file)
    try:
        return fromstring(text)
    except ParseError as error:
        raise DataError(f"not valid XML ({error})", file=file) from error


def _record(entry: Element, file: Path, number: int) -> Record:
    place = Record({}, str(file), number)
    triples = [_triple(one, place) for one in entry.iterfind("modifiedtripleset/mtriple")]
    if not triples:
        raise place.error("an entry without triples", field="modifiedtripleset")
    fields: dict[str, str | list[str]] = {
        "id": f"{file.stem}/{entry.get('eid', number)}",
        "category": entry.get("category", ""),
        "source": triples_text(triples),
    }
    targets = [lex.text.strip() for lex in entry.iterfind("lex") if lex.text and lex.text.strip()]
    return Record({**fields, "target": targets} if targets else fields, str(file), number)


def _triple(element: Element, place: Record) -> tuple[str, str, str]:
    match [part.strip() for part in (element.text or "").split(" | ")]:
        case [subject, predicate, object]:
            return subject, predicate, object
    raise place.error(f"expected 'subject | predicate | object', found {element.text!r:.60}", field="mtriple")
