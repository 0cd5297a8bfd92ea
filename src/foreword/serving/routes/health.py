"""Whether it lives, whether it is ready, and its numbers."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from foreword.serving.problems import Problem
from foreword.serving.service import caller_of, service_of

routes = APIRouter(tags=["Health"])


class Health(BaseModel):
    """Whether the process does its work."""

    status: Literal["ok", "stuck"]


class Readiness(BaseModel):
    """Whether work should be sent here, and why not."""

    ready: bool
    reason: str
    tested: str | None


@routes.get("/healthz", responses={503: {"model": Health}})
async def healthz(request: Request) -> Response:
    """Alive: the forward thread lives, and is not stuck. If not, restart it."""
    service = service_of(request)
    well = service.batcher.healthy(service.settings.stuck)
    return JSONResponse({"status": "ok" if well else "stuck"}, 200 if well else 503)


@routes.get("/readyz", responses={200: {"model": Readiness}, 503: {"model": Readiness}})
async def readyz(request: Request) -> Response:
    """Ready: the model is loaded, a self-test was answered, and the server was not told to stop."""
    service = service_of(request)
    well = service.batcher.healthy(service.settings.stuck)
    ready = service.ready and well and not service.draining
    reason = "draining" if service.draining else service.why if well else "stuck"
    return JSONResponse({"ready": ready, "reason": reason, "tested": service.tested}, 200 if ready else 503)


@routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus metrics. Where there are keys, one that may ask all tasks is needed, since tasks are named."""
    if caller_of(request).tasks is not None:
        raise Problem("auth.forbidden", "Metrics are for keys that may ask all tasks")
    service = service_of(request)
    service.metrics.ready.set(service.ready and not service.draining)
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
