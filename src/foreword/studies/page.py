"""Pages of HTML about a study: one file each, that asks the network for nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from foreword.artifacts.folders import write_whole
from foreword.studies.wording import duration, method_name, metric_name, percent, share, size

TONES = 8
"""How many colours, with a dash and a marker each, the pages have."""


def write_page(path: Path, template: str, **values: Any) -> None:
    """Write a page, at once or not at all; what was there is replaced. The same input gives the same bytes.

    Args:
        path: the file to write.
        template: name of a file in this folder.
        values: what it shows.

    Raises:
        OutputError: the file cannot be written.
    """
    page = _environment().get_template(template).render(values)
    write_whole(path, page.encode("utf-8", "xmlcharrefreplace"))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("foreword.studies", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "method": method_name,
        "metric": metric_name,
        "percent": percent,
        "share": share,
        "size": size,
        "duration": duration,
    }
    return environment
