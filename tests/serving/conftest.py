"""One registry for all, which nobody changes, and a server on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from foreword.registry import Registry
from serving_at import Served, fill, served


@pytest.fixture(scope="session")
def registry_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("serving") / "registry"
    fill(root, root.parent)
    return root


@pytest.fixture
def registry(registry_root: Path) -> Registry:
    return Registry(registry_root)


@pytest.fixture(scope="module")
def server(registry_root: Path) -> Served:
    with served(Registry(registry_root)) as one:
        yield one
