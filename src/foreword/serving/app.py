"""The app: routes, what they share, and what runs beside them."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import foreword
from foreword.errors import ForewordError, RegistryError
from foreword.inference.engine import Engine
from foreword.registry import Registry
from foreword.serving import schemas
from foreword.serving.catalogue import Catalogue
from foreword.serving.front import Front, problem_response
from foreword.serving.metrics import Metrics
from foreword.serving.problems import Problem, failed
from foreword.serving.readiness import keep_testing
from foreword.serving.routes import admin, completions, health, page, predict, tasks
from foreword.serving.scheduling import Batcher, Waiting
from foreword.serving.service import Service, request_id_of
from foreword.serving.settings import ServingSettings

_DESCRIPTION = "Many tasks on one frozen model. Every answer says which version of which task gave it."
_NAMES = {
    name
    for model in vars(schemas).values()
    if isinstance(model, type) and issubclass(model, schemas.Strict)
    for name in model.model_fields
}
"""Names of the fields of requests: only these are ever told back."""
_SWITCH = 2e-4
"""Seconds after which a thread that computes in Python lets another go on (Python's own 5 ms are for other programs).
A forward pass gives the interpreter up in every operation; with hundreds of them, waiting 5 ms each time for an event
loop that is busy refusing requests would take a second where 20 ms are needed."""
log = logging.getLogger(__name__)


class _App(FastAPI):
    """FastAPI with our door around everything, its own limits and error page included."""

    def build_middleware_stack(self) -> ASGIApp:
        return Front(super().build_middleware_stack(), self.state.service)


def create_app(engine: Engine, settings: ServingSettings | None = None) -> FastAPI:
    """An ASGI app that answers with an engine on a registry.

    Args:
        engine: on a `Registry`.
        settings: limits; the defaults if None.

    Raises:
        RegistryError: the engine is on something else, which has no versions.
    """
    settings = settings or ServingSettings()
    service = _service(engine, settings)
    app = _App(
        title="Foreword",
        version=foreword.__version__,
        description=_DESCRIPTION,
        max_body_size=settings.max_body,
        lifespan=_lifespan,
        redoc_url=None,
    )
    app.state.service = service
    for module in (predict, completions, tasks, health, page):
        app.include_router(module.routes)
    if settings.admin is not None:
        app.include_router(admin.routes)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    return app


def _service(engine: Engine, settings: ServingSettings) -> Service:
    registry = engine.source
    if not isinstance(registry, Registry):
        raise RegistryError("a server needs an engine on a registry, since what it answers with has versions")
    waiting = Waiting(
        batch_tokens=settings.batch_tokens,
        batch_rows=settings.batch_rows,
        look_ahead=settings.look_ahead,
        max_passed=settings.max_passed,
        quantum=settings.quantum,
    )
    metrics = Metrics(lambda: _now(service))
    batcher = Batcher(
        engine.run,
        waiting,
        max_queue=settings.max_queue,
        max_tokens=settings.max_queue * settings.batch_tokens // 8,
        max_wait=settings.max_wait,
        tokenizers=settings.tokenizers,
        observe=metrics.observe,
    )
    service = Service(engine, registry, settings, Catalogue(engine, registry), batcher, metrics)
    return service


def _now(service: Service) -> dict[str, float]:
    """Numbers of this moment, for `/metrics`."""
    inputs, tokens, age = service.batcher.waiting
    stats = service.engine.stats()
    return {
        "inputs_inside": service.batcher.inside,
        "queue_inputs": inputs,
        "queue_tokens": tokens,
        "queue_age_seconds": age,
        "prompts_resident": stats.resident,
        "prompts_resident_bytes": stats.resident_bytes,
        "prompt_hits_total": stats.hits,
        "prompt_misses_total": stats.misses,
        "prompt_loads_total": stats.loads,
        "prompt_load_failures_total": stats.failures,
        "prompt_evictions_total": stats.evictions,
    }


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    sys.setswitchinterval(_SWITCH)
    service.batcher.start()
    beside = [asyncio.create_task(keep_testing(service)), asyncio.create_task(_poll(service))]
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        service.batcher.stop()


async def _poll(service: Service) -> None:
    """See what others have published, off the forward path."""
    while True:
        await asyncio.sleep(service.settings.poll)
        try:
            if await asyncio.to_thread(service.registry.changed):
                service.metrics.changes.inc()
        except (ForewordError, OSError) as error:
            log.warning("the registry cannot be read", exc_info=error)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error, request_id_of(request))


async def _failed(request: Request, error: Exception) -> Response:
    """What nobody expected; the front logs it."""
    del error
    return problem_response(failed(), request_id_of(request))


async def _http(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself."""
    assert isinstance(error, HTTPException)
    told = {
        404: ("route.unknown", "There is no such address. /docs lists those there are"),
        405: ("method.unknown", "The address does not know this method. /docs lists those it knows"),
        413: ("request.too-large", "The body is too large"),
    }
    code, detail = told.get(error.status_code, ("request.malformed", "The request is not one that is understood"))
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return problem_response(Problem(code, detail, status=error.status_code, headers=headers), request_id_of(request))


async def _not_understood(request: Request, error: Exception) -> Response:
    """Which field is wrong and how, without what was in it."""
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    steps = [step for step in first["loc"] if step not in ("body", "query", "path")]
    known: Callable[[Any], bool] = lambda step: isinstance(step, int) or step in _NAMES  # noqa: E731
    field = ".".join(str(step) for step in steps if known(step)) or None
    detail = "A field that is not known here" if first["type"] == "extra_forbidden" else str(first["msg"])
    return problem_response(Problem("request.malformed", detail, field=field), request_id_of(request))
