"""A registry of tiny tasks, and real servers on free ports."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

import foreword as fw
from foreword.backbones import Backbone
from foreword.inference.engine import Engine, Job
from foreword.registry import Registry
from foreword.serving import ServingSettings, create_app
from foreword.serving.server import Server, listening_socket, make_server
from foreword.serving.service import Service
from tiny import tiny_backbone
from tiny_artifacts import METHODS, records, train_tiny

GENEROUS = 60.0
"""Seconds that a loaded machine may take for what is done in one."""


def canary(label: str, seed: int, folder: Path, backbone: Backbone | None = None) -> Path:
    """A classification artifact whose answers nobody else gives: one of its labels is its own."""
    data = [{"text": item["text"], "label": f"{label}-{n % 2}"} for n, item in enumerate(records("classification"))]
    run = fw.train(
        backbone or tiny_backbone(),
        METHODS["ptuning-v2" if seed % 2 else "prompt-tuning"],
        fw.Classification(),
        train=data,
        dev=data,
        progress=False,
        epochs=1,
        batch_size=2,
        learning_rate=1e-2,
        seed=seed,
    )
    run.save(folder)
    return folder


def fill(root: Path, scratch: Path) -> Registry:
    """`colour` in two versions, `shape`, `ner` and `qa`."""
    registry = Registry(root, create=True)
    for number in (1, 2):
        registry.add(canary(f"colour{number}", number, scratch / f"colour{number}"), "colour")
    registry.set_alias("colour", "champion", 1)
    registry.add(canary("shape", 3, scratch / "shape"), "shape")
    for task in ("ner", "qa"):
        train_tiny(task, "ptuning-v2").save(scratch / task)
        registry.add(scratch / task, task)
    return registry


class Gated(Engine):
    """An engine whose passes wait until they may go, and that remembers what it ran."""

    def __init__(self, *given: Any, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.gate = threading.Event()
        self.gate.set()
        self.ran: list[list[Job]] = []
        self.entered = threading.Event()

    def run(self, jobs: Sequence[Job]) -> list[Any]:
        self.entered.set()
        self.gate.wait(GENEROUS)
        self.ran.append(list(jobs))
        return super().run(jobs)


@dataclass
class Served:
    """A running server."""

    url: str
    port: int
    engine: Gated
    service: Service
    server: Server
    client: httpx.Client

    def predict(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/predict", json=body)

    def metric(self, name: str, **labels: str) -> float:
        return self.service.metrics.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def served(registry: Registry, backbone: Backbone | None = None, **settings: Any) -> Iterator[Served]:
    """A real uvicorn in a thread."""
    engine = Gated(backbone or tiny_backbone(), registry)
    app = create_app(engine, ServingSettings(**settings))
    server = make_server(app)
    sock = listening_socket("127.0.0.1", 0)
    port = sock.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    thread.start()
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=GENEROUS, trust_env=False) as client:
        try:
            wait_until(lambda: server.started and app.state.service.ready)
            yield Served(url, port, engine, app.state.service, server, client)
        finally:
            engine.gate.set()
            server.should_exit = True
            thread.join(GENEROUS)
            assert not thread.is_alive()


def wait_until(happened: Any, seconds: float = GENEROUS) -> None:
    """Wait for something that will happen."""
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)
