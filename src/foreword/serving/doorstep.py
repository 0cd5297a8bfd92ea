"""Refusals while too much waits, at hardly any cost: an overload shall not take the time of those that were let in.

A request that would only be told to come again is not taken through HTTP parser, app and task. It is recognized by its
bytes, if it is one of the ordinary ones that have arrived whole; all others go the usual way, to the same answer. The
log has a line per second of them, with their number.
"""

from __future__ import annotations

import asyncio
import logging
import re

from starlette.datastructures import Headers
from starlette.responses import Response

from foreword.serving.front import WORKING, Door, Visit, problem_response
from foreword.serving.problems import Problem
from foreword.serving.service import Service

_HEADER = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n"
_HEAD = re.compile(rb"POST (?P<path>/[a-z0-9/]+) HTTP/1\.1\r\n(?P<headers>(?:" + _HEADER + rb"){1,64})\r\n")
_OTHER_WAYS = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
log = logging.getLogger(__name__)


class Doorstep:
    """Looks at what a connection brings before anything else does.

    Args:
        service: of the app.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._door = service, Door(service)
        self._refused = 0

    def __call__(self, data: bytes) -> Response | None:
        """The refusal of a request, counted; None if it has to go the usual way. For the thread of the event loop.

        Args:
            data: what arrived on a connection on which nothing else is under way.
        """
        if self._service.batcher.full is None or (found := _ordinary(data)) is None:
            return None
        path, headers = found
        scope, visit = {"method": "POST", "path": path}, Visit.of(headers)
        try:
            self._door.admit(scope, headers)
        except Problem as problem:
            if problem.code != "busy":
                return None
            response = problem_response(problem, visit.request_id)
            response.headers["x-request-id"] = visit.request_id
            self._door.count(scope, visit, problem.status, log_it=False)
            if not self._refused:
                asyncio.get_running_loop().call_later(1.0, self._tell)
            self._refused += 1
            return response
        return None

    def _tell(self) -> None:
        log.info("refused", extra={"facts": {"status": 429, "requests": self._refused}})
        self._refused = 0


def _ordinary(data: bytes) -> tuple[str, Headers] | None:
    """Path and headers, if this is one whole request for work, on a connection that stays, with nothing behind it."""
    head = _HEAD.match(data)
    if head is None or (path := head["path"].decode()) not in WORKING:
        return None
    pairs = [line.split(b":", 1) for line in head["headers"].splitlines()]
    raw = [(name.lower(), value.strip()) for name, value in pairs]
    headers = dict(raw)
    if len(headers) < len(raw) or headers.keys() & _OTHER_WAYS or b"host" not in headers:
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    if headers.get(b"content-length") != str(len(data) - head.end()).encode():
        return None
    return path, Headers(raw=raw)
