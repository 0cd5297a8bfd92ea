"""MRQA 2019: a header line, then one context and its questions a line.

Source: Fisch et al. 2019, 'MRQA 2019 Shared Task', section 3.1, and the format's own description.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from foreword.data.nodes import Node
from foreword.data.readers.base import ReadOptions
from foreword.data.readers.json_lines import read_json_lines
from foreword.data.records import Record


def read_mrqa(file: str, options: ReadOptions) -> Iterator[Record]:
    """Stream one record per question; its ``line`` is the line of its context.

    Fields: ``id``, ``question``, ``context``, and where the file gives answers also ``golds``, all texts that count
    as right, and ``answers``, a list of ``{"text": str, "answer_start": int}`` with every place where one was found.
    A text found under another spelling (``IT`` for ``it``) is given as it stands in the context.

    Raises:
        DataError: the file cannot be read, a line is no JSON object, or some level of it has the wrong shape;
            the field says where, as in ``qas[1].detected_answers[0].char_spans[0]``.
    """
    lines = read_json_lines(file, options)
    header = next(lines, None)
    if header is not None and "header" not in header.fields:
        raise header.error(
            "missing", field="header", hint="MRQA files begin with a header line; others are of format jsonl"
        )
    for line in lines:
        root = Node(line.fields, "", file, line.line)
        context = root.get("context").expect(str).value
        for question in root.get("qas").each():
            yield Record(_question(question.expect(dict), context), file, line.line)


def _question(question: Node, context: str) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": question.get("qid").expect(str).value, "context": context}
    fields["question"] = question.get("question").expect(str).value
    if "answers" in question.value:
        fields["golds"] = [gold.expect(str).value for gold in question.get("answers").each()]
    if "detected_answers" in question.value:
        found = question.get("detected_answers").each()
        spans = [span for answer in found for span in answer.expect(dict).get("char_spans").each()]
        fields["answers"] = [_answer(span, context) for span in spans]
    return fields


def _answer(span: Node, context: str) -> dict[str, Any]:
    """The stretch between two characters, both inclusive."""
    ends = [end.expect(int).value for end in span.each()]
    if len(ends) != 2 or not 0 <= ends[0] <= ends[1] < len(context):
        raise span.error(f"expected the first and the last of {len(context)} characters, found {ends!r:.60}")
    return {"text": context[ends[0] : ends[1] + 1], "answer_start": ends[0]}
