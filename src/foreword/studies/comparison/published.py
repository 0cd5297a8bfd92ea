"""Scores that papers report, to stand beside our own. The data are in published.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Published:
    """Scores of several methods on one data set with one backbone.

    Attributes:
        source: paper and table.
        data: as our recipes call it.
        metric: as ours call it.
        backbone: as the paper calls it.
        scores: method -> score, a fraction.
    """

    source: str
    data: str
    metric: str
    backbone: str
    scores: Mapping[str, float]


@cache
def published() -> tuple[Published, ...]:
    """Everything in the tables, in their order."""
    raw = tomllib.loads(files("foreword.studies.comparison").joinpath("published.toml").read_text("utf-8"))
    return tuple(
        Published(
            table["source"],
            row["data"],
            row["metric"],
            row["backbone"],
            {method: score / 100 for method, score in zip(table["methods"], row["scores"], strict=True)},
        )
        for table in raw["table"]
        for row in table["rows"]
    )


def published_on(data: str, metric: str | None, *methods: str) -> list[Published]:
    """What papers report of all these methods on a data set by a metric."""
    return [
        one for one in published() if (one.data, one.metric) == (data, metric) and all(m in one.scores for m in methods)
    ]
