"""What goes wrong, in words for the caller: RFC 9457 problems with stable codes.

A problem never holds text of an input, a path, or anything else that a caller sent: details are made of
our own words, of numbers, and of names that were looked up in a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foreword.errors import (
    ArtifactError,
    DataError,
    EngineError,
    ForewordError,
    RegistryError,
    TooLongError,
    UnknownReference,
)

MEDIA_TYPE = "application/problem+json"

CODES: dict[str, tuple[int, str]] = {
    "request.malformed": (422, "The request is not one that is understood"),
    "request.too-large": (413, "The request is too large"),
    "route.unknown": (404, "There is no such address"),
    "method.unknown": (405, "The address does not know this method"),
    "auth.missing": (401, "A key is needed"),
    "auth.forbidden": (403, "The key does not open this"),
    "task.unknown": (404, "There is no such task"),
    "task.damaged": (503, "The task cannot be loaded"),
    "task.conflict": (409, "The registry refuses the change"),
    "input.invalid": (422, "The input is not what the task reads"),
    "input.too-long": (422, "The input is too long"),
    "busy": (429, "Too much is waiting"),
    "draining": (503, "The server is stopping"),
    "deadline": (504, "The time for the answer is over"),
    "internal": (500, "The server failed"),
}
"""Code -> its usual status, and its title. Codes are for programs and do not change."""


class Problem(Exception):  # noqa: N818  the RFC's word
    """An answer that is none.

    Args:
        code: a key of `CODES`.
        detail: what was wrong with this request and what to do, in words of ours only.
        field: which part of the request it is about.
        status: where it is not the usual one.
        headers: to be sent with it.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code, self.detail, self.field = code, detail, field
        self.status = CODES[code][0] if status is None else status
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, Any]:
        """As it is sent."""
        told = {
            "type": f"urn:foreword:problem:{self.code}",
            "title": CODES[self.code][1],
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "request_id": request_id,
        }
        return told if self.field is None else told | {"field": self.field}


def unknown_task(field: str = "task") -> Problem:
    """The same words for a task that is not there and for one that this caller may not ask."""
    return Problem("task.unknown", "No such task, version or alias. GET /v1/tasks lists those you may ask", field=field)


def deadline() -> Problem:
    """The time a request had is over."""
    return Problem("deadline", "The answer was not ready in time. Allow more (options.timeout_ms), or ask for less")


def problem_of(error: Exception, fields: Mapping[str, bool]) -> Problem:
    """What a caller is told of an error from the engine, whose own message may quote the input or name a path.

    Args:
        error: as raised or returned.
        fields: those that the task reads -> whether they are needed.
    """
    match error:
        case Problem():
            return error
        case DataError():
            return _unreadable(error, fields)
        case UnknownReference():
            return unknown_task()
        case ArtifactError() | RegistryError():
            return Problem("task.damaged", "Its files are damaged or do not fit the model. Others are not affected")
        case ForewordError() if not isinstance(error, EngineError):
            return Problem("input.invalid", f"The task cannot answer this. {_wanted(fields)}")
    return failed()


def failed() -> Problem:
    """What is our fault."""
    return Problem("internal", "Something failed that should not. The log has it under this request's id")


def _unreadable(error: DataError, fields: Mapping[str, bool]) -> Problem:
    if isinstance(error, TooLongError):
        return Problem("input.too-long", "The task cannot read all of it. Shorten it, or let it be cut (truncate)")
    return Problem("input.invalid", f"The task cannot read this. {_wanted(fields)}", field=_known(error, fields))


def _known(error: DataError, fields: Mapping[str, bool]) -> str | None:
    """The field it is about, if that is one of the task's and not something the caller made up."""
    field = (error.field or "").split(".")[0].split("[")[0]
    return field if field in fields else None


def _wanted(fields: Mapping[str, bool]) -> str:
    needed = ", ".join(name for name, must in fields.items() if must)
    others = ", ".join(name for name, must in fields.items() if not must)
    return f"It needs: {needed or 'nothing'}" + (f"; it may have: {others}" if others else "")
