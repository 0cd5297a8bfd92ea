"""A registry with a few versions, made anew for every test out of artifacts that are made once."""

from __future__ import annotations

import pytest

from foreword.registry import Registry
from tiny_artifacts import tiny_artifact


@pytest.fixture
def registry(tmp_path) -> Registry:
    """Two versions of sst2, the first of which is called champion, and one of ner."""
    found = Registry(tmp_path / "models", create=True)
    found.add(tiny_artifact(), "sst2", aliases=["champion"])
    found.add(tiny_artifact("classification", "prompt-tuning"), "sst2")
    found.add(tiny_artifact("ner", "head-only"), "ner")
    return found
