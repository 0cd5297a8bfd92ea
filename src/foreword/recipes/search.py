"""``[search]``: what `foreword tune` may change in a recipe, and to what.

    [search]
    training.learning_rate = { low = 1e-3, high = 1e-1, log = true }
    method.prompt_length = [8, 16, 32]

A key with quotes around the whole path means the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

SEARCHED = ("task", "method", "training")
"""Tables a search may change. Data and backbone stay as they are: a search compares runs on the same ones."""


class Range(BaseModel):
    """All numbers between two, whole ones if both ends are."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    low: int | float
    """Smallest value."""
    high: int | float
    """Greatest value."""
    log: bool = False
    """Whether 1 to 10 is as wide as 10 to 100, as rates want."""

    @model_validator(mode="after")
    def _has_width(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is one of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


Values = Range | tuple[Any, ...]
"""A range, or a list to choose from."""


def parse_search(raw: Mapping[str, Any], mistakes: list[str]) -> dict[str, Values]:
    """Dotted path of a setting -> its values. Whether there is such a setting is known when it is tried."""
    found: dict[str, Values] = {}
    for path, value in _flat(raw):
        if path.partition(".")[0] not in SEARCHED or path.endswith((".", ".type")) or "." not in path:
            mistakes.append(f"search.{path}: expected a setting of {', '.join(SEARCHED)}, such as method.prompt_length")
        elif isinstance(value, list) and len(value) > 1 and all(value.count(item) == 1 for item in value):
            found[path] = tuple(value)
        elif isinstance(value, Mapping):
            try:
                found[path] = Range.model_validate(value)
            except ValidationError as error:
                said = error.errors()[0]
                where = ".".join(map(str, [path, *said["loc"]]))
                mistakes.append(f"search.{where}: {said['msg'].removeprefix('Value error, ')}")
        else:
            mistakes.append(
                f"search.{path}: expected a list of two different values or more, or a range such as "
                f"{{ low = 1e-3, high = 1e-1, log = true }} (found {value!r:.60})"
            )
    return found


def _flat(raw: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as dotted paths; a table with an end of a range is one."""
    for key, value in raw.items():
        if isinstance(value, Mapping) and not value.keys() & {"low", "high"}:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
