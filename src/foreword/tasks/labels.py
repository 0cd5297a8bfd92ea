"""Label names: read from records, put in order, and compared with those that are known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from foreword.data.records import Record


def label_name(value: Any) -> str | None:
    """A label as text: true/false for truth values, digits for whole numbers; None for what is no label."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str() if value.strip():
            return value
    return None


def in_order(labels: Iterable[str]) -> tuple[str, ...]:
    """All that occur, once each: whole numbers by value, then everything else by its characters."""
    return tuple(sorted(set(labels), key=_order))


def check_label(label: str, labels: Sequence[str]) -> None:
    """Refuse a label that a setting names and the task does not have.

    Raises:
        ValueError: listing the labels there are.
    """
    if label not in labels:
        raise ValueError(f"'{label}' is no label. Labels: {', '.join(labels)}")


def check_known(
    records: Sequence[Record], given: Sequence[Collection[str]], known: Collection[str], field: str
) -> None:
    """Refuse labels that training never saw.

    Args:
        records: where they come from.
        given: the labels of each record.
        known: those of the training data.
        field: that holds them.

    Raises:
        DataError: naming the first such record, and how many unknown labels there are.
    """
    unknown = {label for labels in given for label in labels} - set(known)
    for record, labels in zip(records, given, strict=True):
        for label in labels:
            if label in unknown:
                others = f" (nor do {len(unknown) - 1} others)" if len(unknown) > 1 else ""
                raise record.error(
                    f"label '{label}' does not occur in the training data{others}",
                    field=field,
                    hint=f"Known labels: {', '.join(sorted(known))}",
                )


def _order(label: str) -> tuple[bool, int, str]:
    try:
        return False, int(label), label
    except ValueError:
        return True, 0, label
