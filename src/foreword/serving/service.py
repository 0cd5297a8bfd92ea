"""What the routes of an app share."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from foreword.inference.engine import Engine
from foreword.registry import Registry
from foreword.serving.catalogue import Catalogue
from foreword.serving.keys import ANYBODY, Caller
from foreword.serving.metrics import Metrics
from foreword.serving.scheduling import Batcher
from foreword.serving.settings import ServingSettings


@dataclass
class Service:
    """One app.

    Attributes:
        engine, registry, catalogue: what is answered.
        batcher: when.
        draining: whether the server was told to stop.
        ready: whether the self-test gave an answer; `why` it has not yet.
    """

    engine: Engine
    registry: Registry
    settings: ServingSettings
    catalogue: Catalogue
    batcher: Batcher
    metrics: Metrics
    draining: bool = False
    ready: bool = False
    why: str = "starting"
    tested: str | None = None


def service_of(request: Request) -> Service:
    """The app a request came to."""
    service: Service = request.app.state.service
    return service


def caller_of(request: Request) -> Caller:
    """Who it is from; the front has looked."""
    caller: Caller = request.scope.get("foreword.caller", ANYBODY)
    return caller


def request_id_of(request: Request) -> str:
    """Its id; the front gave it one."""
    found: str = request.scope.get("foreword.request_id", "")
    return found
