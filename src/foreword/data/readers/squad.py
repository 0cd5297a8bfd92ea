"""SQuAD 1.1 and 2.0 JSON: articles, their paragraphs, and the questions about each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from foreword.data.nodes import Node
from foreword.data.readers.base import ReadOptions, read_json
from foreword.data.records import Record

_HINT = "SQuAD files look like data[].paragraphs[].qas[]"


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
    root = Node(read_json(file), "", file, hint=_HINT)
    for article in root.expect(dict).get("data").each():
        for paragraph in article.expect(dict).get("paragraphs").each():
            context = paragraph.expect(dict).get("context").expect(str).value
            for question in paragraph.get("qas").each():
                number += 1
                yield Record(_question(question.numbered(number), context), file, number)


def _question(question: Node, context: str) -> dict[str, Any]:
    question.expect(dict)
    fields = {name: question.get(name).expect(str).value for name in ("id", "question")}
    fields["context"] = context
    if "answers" in question.value:
        fields["answers"] = [_answer(answer) for answer in question.get("answers").each()]
        fields["is_impossible"] = not fields["answers"]
    if "is_impossible" in question.value:
        fields["is_impossible"] = question.get("is_impossible").expect(bool).value
    return fields


def _answer(answer: Node) -> dict[str, Any]:
    answer.expect(dict)
    text, start = answer.get("text").expect(str), answer.get("answer_start").expect(int)
    if start.value < 0:
        raise start.error(f"expected an offset, found {start.value}")
    return {"text": text.value, "answer_start": start.value}
