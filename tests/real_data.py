"""Where the real data sets lie, for tests that read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_data() -> Path | None:
    """The folder named by FOREWORD_DATA, or else ../shared/data; ``None`` if it is not there."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("FOREWORD_DATA") or beside)
    return folder if folder.is_dir() else None


needs_real_data = pytest.mark.skipif(
    real_data() is None, reason="needs the real data sets: set FOREWORD_DATA to their folder"
)
