"""A server with a task of every kind, and pages that ask it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from chromium import chromium
from foreword.registry import Registry
from playground_page import EVIL, KINDS, Playground
from serving_at import Served, canary, served
from tiny_artifacts import tiny_artifact

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A task of every kind, one of them in three versions, and one whose labels are up to no good."""
    folder = tmp_path_factory.mktemp("playground")
    registry = Registry(folder / "registry", create=True)
    for kind in KINDS:
        registry.add(tiny_artifact(kind), kind)
    for method in ("prefix-tuning", "prompt-tuning"):
        registry.add(tiny_artifact("classification", method), "classification")
    registry.set_alias("classification", "champion", 2)
    registry.add(canary(EVIL, 1, folder / "evil"), "evil")
    return registry


@pytest.fixture(scope="module")
def server(registry: Registry) -> Iterator[Served]:
    with served(registry) as one:
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One per file: as long as it runs, no event loop of asyncio can."""
    with chromium() as one:
        yield one


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Any]:
    """Makes pages; none of them may fail, break the policy or ask anybody else."""
    made: list[Playground] = []

    def make(url: str, **settings: Any) -> Playground:
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings}).new_page()
        page.set_default_timeout(60_000)
        made.append(Playground(page, url))
        return made[-1]

    yield make
    for one in made:
        one.page.context.close()
        assert (one.faults, one.elsewhere) == ([], [])


@pytest.fixture
def playground(new_page: Any, server: Served) -> Playground:
    return new_page(server.url).open()
