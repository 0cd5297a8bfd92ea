"""What a task reads: an input to try, and which of its fields are needed. The task itself is asked, so it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foreword.data.records import Record
from foreword.errors import DataError
from foreword.tasks import Task

_TEXT = "Anna Smith liked London."
_SAMPLES: dict[str, Any] = {
    "text": _TEXT,
    "pair": "She was in London.",
    "source": _TEXT,
    "question": "Where was Anna?",
    "context": "Anna was in London.",
    "tokens": ["Anna", "Smith", "liked", "London", "."],
    "predicate": 2,
    "choices": ["London", "Paris"],
    "subject": "London",
    "start": (0, 17),
    "end": (10, 23),
    "span": ("Anna", "London"),
    "passage": {
        "text": _TEXT,
        "questions": [{"question": "Who liked London?", "answers": [{"text": "Anna"}, {"text": "London"}]}],
        "entities": [{"start": 0, "end": 9}, {"start": 17, "end": 22}],
    },
    "questions": [{"query": "@placeholder was visited."}],
}
"""What a column may hold, by our name for it. Columns that are not here hold labels and ids, which no input needs."""


def example_of(task: Task[Any, Any]) -> dict[str, Any]:
    """An input that the task can read, with nothing in it that it can do without."""
    record = _full(task)
    for name in list(record):
        less = {other: value for other, value in record.items() if other != name}
        if less and reads(task, less):
            record = less
    return record


def fields_of(task: Task[Any, Any]) -> dict[str, bool]:
    """The fields an input may have -> whether `example_of` needs it."""
    needed = example_of(task)
    return {name: name in needed for name in _full(task)}


def reads(task: Task[Any, Any], record: Mapping[str, Any]) -> bool:
    """Whether the task can read an input."""
    try:
        task.read([Record(record, "<example>", 1)], labelled=False)
    except DataError:
        return False
    return True


def _full(task: Task[Any, Any]) -> dict[str, Any]:
    """A value in every field that is not a label."""
    columns: Mapping[str, Any] = task.columns.model_dump() if hasattr(task, "columns") else {}
    samples = _SAMPLES | ({"start": (0, 3)} if columns.get("span") else {})  # where spans are given, starts count words
    record: dict[str, Any] = {}
    for role, names in columns.items():
        if isinstance(names, str) and role in samples:
            _put(record, names, samples[role])
        elif names and role in samples:  # a column for each of several
            values = samples[role]
            for number, name in enumerate(names):
                _put(record, name, values[number % len(values)])
    return record


def _put(record: dict[str, Any], name: str, value: Any) -> None:
    """Set a field; a dot in its name leads into an object."""
    *way, last = name.split(".")
    for step in way:
        record = record.setdefault(step, {})
    record[last] = value
