"""A model card that a hub can show."""

from __future__ import annotations

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from foreword.artifacts.manifest import Manifest

_TEMPLATES = Environment(
    loader=PackageLoader("foreword.artifacts", "."),
    undefined=StrictUndefined,
    autoescape=False,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_MOST = 20
"""Labels that are listed; a task may have a whole vocabulary of them."""


def listed(labels: Sequence[str]) -> str:
    """Labels on one line, the first ones only where there are many."""
    more = f", and {len(labels) - _MOST:,} more" if len(labels) > _MOST else ""
    return ", ".join(labels[:_MOST]) + more


_TEMPLATES.filters["listed"] = listed
_TEMPLATES.filters["cell"] = lambda text: " ".join(text.replace("|", "\\|").split())  # one cell of a table


def model_card(manifest: Manifest) -> str:
    """The artifact's README.md: front matter, use, results, training data, how it was made."""
    return _TEMPLATES.get_template("card.md.j2").render(m=manifest)
