"""The door: every request passes here first and last.

It gets an id, shows its key, is turned away if the house is full or closing, and is counted and logged when it
leaves. Whatever nobody caught ends here, without a word of it on the wire or in the log.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foreword.serving.keys import ANYBODY, Caller
from foreword.serving.problems import MEDIA_TYPE, Problem, failed
from foreword.serving.service import Service

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/docs", "/docs/oauth2-redirect"})
"""Addresses that ask for no key. All others do, known or not, once there are keys."""
ADMIN = "/admin/"
WORKING = frozenset({"/v1/predict", "/v1/completions"})

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_GONE = 499
log = logging.getLogger(__name__)


def problem_response(problem: Problem, request_id: str, extra: Mapping[str, Any] | None = None) -> Response:
    """A problem as it is sent."""
    body = to_json({**problem.body(request_id), **(extra or {})})
    return Response(body, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


@dataclass
class Visit:
    """What is known of a request while it is here."""

    request_id: str
    began: float = field(default_factory=time.perf_counter)
    caller: Caller = ANYBODY
    closing: bool = False
    counted: bool = False

    @classmethod
    def of(cls, headers: Headers) -> Visit:
        """A new one, with the id that the request brings, if it is one."""
        sent = headers.get("x-request-id", "")
        return cls(sent if _ID.fullmatch(sent) else uuid4().hex)


class Door:
    """Who may come in, and the book of who came.

    Args:
        service: of the app.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def admit(self, scope: Scope, headers: Headers) -> Caller:
        """Who it is.

        Raises:
            Problem: it may not come in, or not now.
        """
        settings = self._service.settings
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 15 or int(length) > settings.max_body:
            raise Problem("request.too-large", f"A body may have {settings.max_body} bytes")
        caller = self._caller(path, headers)
        if path in WORKING and scope["method"] == "POST":
            if self._service.draining:
                raise Problem("draining", "The server is stopping and takes no new work. Ask another")
            if reason := self._service.batcher.full:
                raise busy_problem(self._service, reason, self._service.batcher.retry_after)
        return caller

    def _caller(self, path: str, headers: Headers) -> Caller:
        settings = self._service.settings
        keys = settings.admin if path.startswith(ADMIN) and settings.admin else settings.keys
        if keys is None or path in OPEN:
            return ANYBODY
        shown = headers.get("authorization")
        if shown is None:
            raise Problem(
                "auth.missing", "Send a key: 'Authorization: Bearer KEY'", headers={"WWW-Authenticate": "Bearer"}
            )
        caller = keys.caller(shown)
        if caller is None:
            raise Problem("auth.forbidden", "This key is not known here, or does not open this address")
        return caller

    def count(self, scope: Scope, visit: Visit, status: int, *, log_it: bool = True) -> None:
        """Count and log, before the answer leaves: whoever has it finds it counted."""
        visit.counted, seconds = True, time.perf_counter() - visit.began
        route = getattr(scope.get("route"), "path", None) or "unknown"
        self._service.metrics.requests.labels(route, str(status)).inc()
        self._service.metrics.request_seconds.labels(route).observe(seconds)
        if not log_it:
            return
        facts = {
            "request_id": visit.request_id,
            "method": scope["method"] if scope["method"] in _METHODS else "other",
            "route": route,
            "status": status,
            "milliseconds": round(seconds * 1000, 2),
            "caller": visit.caller.name,
        }
        log.info("request", extra={"facts": facts})


class Front:
    """ASGI middleware around everything else.

    Args:
        app: the rest.
        service: of the app.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._door = Door(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or turn it away."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visit = Visit.of(headers)
        request_id = scope["foreword.request_id"] = visit.request_id

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                out = MutableHeaders(scope=message)
                out["x-request-id"] = request_id
                if visit.closing or self._service.draining:
                    out["connection"] = "close"
                self._door.count(scope, visit, message["status"])
            await send(message)

        try:
            visit.caller = scope["foreword.caller"] = self._door.admit(scope, headers)
            await self._app(scope, receive, told)
        except Problem as problem:
            visit.closing = problem.code == "request.too-large"  # what is still coming is not read
            await problem_response(problem, request_id)(scope, receive, told)
        except ClientDisconnect:
            pass
        except Exception:
            log.exception("a request failed", extra={"facts": {"request_id": request_id}})
            if not visit.counted:
                await problem_response(failed(), request_id)(scope, receive, told)
        finally:
            if not visit.counted:
                self._door.count(scope, visit, _GONE)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"})


def busy_problem(service: Service, reason: str, retry_after: int) -> Problem:
    """Too much is waiting; counted here."""
    service.metrics.rejected.labels(reason).inc()
    return Problem(
        "busy", f"Too much is waiting. Try again in {retry_after} s", headers={"Retry-After": str(retry_after)}
    )
