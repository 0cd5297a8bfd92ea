"""SQuAD 1.1 and 2.0 JSON: articles, their paragraphs, and the questions about each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from foreword.data.readers.base import ReadOptions, kind, read_json
from foreword.data.records import Record
from foreword.errors import DataError

_NAMES = {str: "a text", int: "a whole number", bool: "a boolean", list: "a list", dict: "an object"}


def read_squad(file: str, options: ReadOptions) -> Iterator[Record]:
    """Read one record per question; its ``line`` is its 1-based number in the file.

    Fields: ``id``, ``question``, ``context``, and where the file gives answers also ``answers``, a
    list of ``{"text": str, "answer_start": int}``, and ``is_impossible``, a bool. A question that
    does not say ``is_impossible`` is so if its list of answers is empty.
    The reader checks the shape of the file, not that offsets agree with the context.

    Raises:
        DataError: the file cannot be read, is not JSON, or some level of it has the wrong shape;
            the field says where, as in ``data[0].paragraphs[2].qas[1].question``.
    """
    del options
    number = 0
    root = _Node(read_json(file), "", file)
    for article in root.expect(dict).get("data").each():
        for paragraph in article.expect(dict).get("paragraphs").each():
            context = paragraph.expect(dict).get("context").expect(str).value
            for question in paragraph.get("qas").each():
                number += 1
                yield Record(_question(question.numbered(number), context), file, number)


def _question(question: _Node, context: str) -> dict[str, Any]:
    question.expect(dict)
    fields = {name: question.get(name).expect(str).value for name in ("id", "question")}
    fields["context"] = context
    if "answers" in question.value:
        fields["answers"] = [_answer(answer) for answer in question.get("answers").each()]
        fields["is_impossible"] = not fields["answers"]
    if "is_impossible" in question.value:
        fields["is_impossible"] = question.get("is_impossible").expect(bool).value
    return fields


def _answer(answer: _Node) -> dict[str, Any]:
    answer.expect(dict)
    text, start = answer.get("text").expect(str), answer.get("answer_start").expect(int)
    if start.value < 0:
        raise start.error(f"expected an offset, found {start.value}")
    return {"text": text.value, "answer_start": start.value}


class _Node:
    """A JSON value that knows its path in the file, and so can complain about itself."""

    def __init__(self, value: Any, path: str, file: str, line: int | None = None) -> None:
        self.value, self.path, self.file, self.line = value, path, file, line

    def numbered(self, line: int) -> _Node:
        return _Node(self.value, self.path, self.file, line)

    def get(self, key: str) -> _Node:
        child = _Node(self.value.get(key), f"{self.path}.{key}" if self.path else key, self.file, self.line)
        if key not in self.value:
            raise child.error("missing")
        return child

    def each(self) -> Iterator[_Node]:
        for index, item in enumerate(self.expect(list).value):
            yield _Node(item, f"{self.path}[{index}]", self.file, self.line)

    def expect(self, wanted: type) -> _Node:
        # Not `isinstance`: in Python, though not in JSON, a boolean is a whole number.
        if type(self.value) is not wanted:
            raise self.error(f"expected {_NAMES[wanted]}, found {kind(self.value)}")
        return self

    def error(self, message: str) -> DataError:
        return DataError(
            message,
            file=self.file,
            line=self.line,
            field=self.path or None,
            hint=None if self.line else "SQuAD files look like data[].paragraphs[].qas[]",
        )
