"""The app of `foreword.serving` in several replicas behind Ray Serve.

A replica is a whole server: the frozen model, an engine, a batcher. Which task a request is for is part of its body,
as without Ray, so rows of all tasks meet in the batches of every replica. Ray starts replicas, sends each request to
one that has room, replaces those that die, and lets those that have to go finish.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foreword.errors import ForewordError
from foreword.inference.engine import Engine
from foreword.scaling.cluster import cluster
from foreword.serving import ServingSettings, create_app
from foreword.serving.logs import to_stderr
from foreword.serving.service import Service

APP = "foreword"
"""What Ray calls the application."""
SERVED_BY = "x-served-by"
"""Header of every answer: Ray's name of the replica."""

_BATCHES = 2
"""Batches' worth of requests that a replica holds: one in the pass, one to be ready when it ends."""
_TICK = 0.05
_OURS = re.compile(r"^foreword\.errors\.\w+: (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Scale:
    """How many replicas, and how large.

    Attributes:
        least, most: replicas; where they differ, Ray chooses by how many requests are going on.
        cpus: that each computes with.
    """

    least: int
    most: int
    cpus: int = 1


class Replica:
    """What Ray asks of a replica, besides answers; `serve.ingress` gives it the app."""

    app: _Labelled

    async def check_health(self) -> None:
        """Ready at first, then alive; Ray replaces a replica that is not.

        Raises:
            ForewordError: saying why it is not.
        """
        service, began = self.app.service, time.monotonic()
        while not service.ready:
            if time.monotonic() - began > service.settings.timeout:
                raise ForewordError(f"a replica does not get ready: {service.why}")
            await asyncio.sleep(_TICK)
        if not service.batcher.healthy(service.settings.stuck):
            raise ForewordError("a forward pass does not end")

    async def drain(self) -> None:
        """Take nothing new, and return when all that was begun is answered."""
        service, began = self.app.service, time.monotonic()
        service.draining = True
        while (past := time.monotonic() - began) < service.settings.grace:
            if past >= service.settings.notice and not service.batcher.inside:
                return
            await asyncio.sleep(_TICK)


@dataclass(frozen=True)
class _Labelled:
    """The app, whose answers also say which replica they are from. The request's id Ray adds to them itself."""

    service: Service
    app: ASGIApp
    replica: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                del headers["x-request-id"]
                headers[SERVED_BY] = self.replica
            await send(message)

        await self.app(scope, receive, told)


@contextmanager
def replicas(
    make_engine: Callable[[], Engine], settings: ServingSettings, scale: Scale, *, host: str, port: int
) -> Iterator[None]:
    """Serve while the block runs, then finish what was begun and go.

    Args:
        make_engine: called in every replica.
        settings: of the app.
        scale: how many replicas.
        host, port: of the proxy in front of them. A cluster where Serve runs already keeps those it has.

    Raises:
        ForewordError: no replica could be started.
    """
    with cluster(scale.most * scale.cpus) as own:
        from ray import serve  # noqa: PLC0415  with the environment of `cluster`
        from ray.serve.exceptions import RayServeException  # noqa: PLC0415
        from ray.serve.schema import LoggingConfig  # noqa: PLC0415

        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        quiet = LoggingConfig(enable_access_log=False, log_level="WARNING")
        where = {"host": host, "port": port}
        serve.start("HeadOnly" if own else "EveryNode", http_options=where, logging_config=quiet)
        try:
            try:
                handle = serve.run(_application(make_engine, settings, scale), name=APP, logging_config=quiet)
            except RuntimeError as error:
                told = serve.status().applications.get(APP)
                reports = [one.message for one in told.deployments.values()] if told else []
                reason = _reason("\n".join([str(error), *reports]))
                raise ForewordError(f"no replica could be started: {reason}") from error
            yield
            with suppress(RayServeException, TimeoutError):  # there may be no replica left
                seconds = settings.grace + settings.notice
                handle.broadcast("drain").results(timeout_s=seconds, return_exceptions=True)
        finally:
            serve.delete(APP)


def wait_for_signal() -> None:
    """Return at SIGTERM or Ctrl-C; a second one stops the process at once."""
    told = threading.Event()

    def tell(sig: int, _: Any) -> None:
        told.set()
        signal.signal(sig, signal.SIG_DFL)

    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, tell)
    while not told.wait(1.0):
        pass


def _application(make_engine: Callable[[], Engine], settings: ServingSettings, scale: Scale) -> Any:
    from ray import serve  # noqa: PLC0415
    from ray.serve.config import AutoscalingConfig, BackpressureConfig  # noqa: PLC0415

    def build() -> _Labelled:
        to_stderr()
        app: FastAPI = create_app(make_engine(), settings)
        return _Labelled(app.state.service, app, serve.get_replica_context().replica_id.unique_id)

    ongoing = min(_BATCHES * settings.batch_rows, settings.max_queue)
    number: dict[str, Any] = {"num_replicas": scale.least}
    if scale.most > scale.least:
        number = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=scale.least, max_replicas=scale.most, target_ongoing_requests=ongoing / _BATCHES
            )
        }
    deployment = serve.deployment(
        serve.ingress(build)(Replica),
        max_ongoing_requests=ongoing,
        max_queued_requests=settings.max_queue,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        graceful_shutdown_wait_loop_s=1.0,
        graceful_shutdown_timeout_s=settings.grace,
        ray_actor_options={"num_cpus": scale.cpus},
        max_constructor_retry_count=1,
        **number,
    )
    return deployment.bind()


def _reason(report: str) -> str:
    """The last of our own errors in what Ray tells of a replica, or its last line."""
    ours = _OURS.findall(report)
    return ours[-1] if ours else report.strip().rpartition("\n")[2]
