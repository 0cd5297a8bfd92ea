"""Texts with places for fields in them, such as "{text} It was {mask}."."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

FIELD = re.compile(r"\{(\w*)\}")


def template_fields(template: str, known: Sequence[str]) -> list[str]:
    """The fields of a template, in its order.

    Args:
        template: as the user wrote it.
        known: names that a field may have.

    Raises:
        ValueError: a field has another name, or comes twice.
    """
    found = [match[1] for match in FIELD.finditer(template)]
    for field in found:
        if field not in known:
            raise ValueError(f"'{{{field}}}' is not one of {', '.join(f'{{{name}}}' for name in known)}")
        if found.count(field) > 1:
            raise ValueError(f"'{{{field}}}' comes twice")
    return found


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every field replaced; braces in the values are ordinary characters."""
    return FIELD.sub(lambda match: values[match[1]], template)
