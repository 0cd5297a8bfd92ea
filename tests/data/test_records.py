"""Fields inside fields, and values that know where they stand."""

from __future__ import annotations

import pytest

from foreword.data.records import Record
from foreword.errors import DataError

RECORD = Record({"a.b": 1, "a": {"b": 2, "c": {"d": [3, "x", " "]}}, "e": None}, "data.jsonl", 7)


@pytest.mark.parametrize(("field", "value"), [("a.b", 1), ("a.c.d", [3, "x", " "]), ("e", None)])
def test_a_dot_leads_into_an_object_unless_the_field_is_called_so(field, value):
    assert RECORD.value(field) == RECORD.get(field, "other") == value
    assert RECORD.has(field)


@pytest.mark.parametrize("field", ["b", "a.x", "a.c.d.0", "e.f", "a."])
def test_a_field_that_is_not_there(field):
    assert not RECORD.has(field)
    assert RECORD.get(field, "other") == "other"
    with pytest.raises(DataError, match=rf"data\.jsonl:7: field '{field}': missing \(this record has: a, a\.b, e\)"):
        RECORD.value(field)


@pytest.mark.parametrize(
    ("look", "says"),
    [
        (lambda node: node.get("b"), r"'a\.b': expected a text, found a number"),
        (lambda node: node.get("x"), r"'a\.x': missing"),
        (lambda node: node.get("c").get("d").get("y"), r"'a\.c\.d': expected an object, found a list"),
        (lambda node: next(node.get("c").each()), r"'a\.c': expected a list, found an object"),
        (lambda node: next(node.get("c").get("d").each()), r"'a\.c\.d\[0\]': expected a text, found a number"),
        (lambda node: list(node.get("c").get("d").each())[2], r"'a\.c\.d\[2\]': is empty"),
    ],
)
def test_a_value_says_where_it_stands(look, says):
    inner = Record({"a": RECORD.fields["a"]}, "data.jsonl", 7).node("a")
    with pytest.raises(DataError, match=rf"data\.jsonl:7: field {says}"):
        look(inner).text()


def test_an_empty_list_is_not_some():
    node = Record({"a": []}, "data.jsonl", 1).node("a")
    assert list(node.each()) == []
    with pytest.raises(DataError, match="field 'a': is empty"):
        node.some()
