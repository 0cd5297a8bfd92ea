"""Facts as text: what generation from data is given."""

from __future__ import annotations

from collections.abc import Iterable


def triples_text(triples: Iterable[tuple[str, str, str]]) -> str:
    """Subjects, predicates and objects as Li & Liang 2021 write them: ``| s : p : o | s : p : o``."""
    return " ".join(f"| {' : '.join(part.strip() for part in triple)}" for triple in triples)
