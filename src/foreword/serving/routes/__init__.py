"""What can be asked over HTTP, one file for each kind of question."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from fastapi.security import HTTPBearer

from foreword.serving.body import StrictRoute
from foreword.serving.problems import CODES, MEDIA_TYPE
from foreword.serving.schemas import ProblemBody

_BEARER = Depends(HTTPBearer(auto_error=False, description="Where the server has keys. It is checked at the door."))


ANSWERING = ("task.unknown", "input.invalid", "input.too-long", "busy", "draining", "deadline", "task.damaged")
"""Codes of problems that a route may have whose answers take a forward pass."""


def router(prefix: str, tag: str) -> APIRouter:
    """A router whose bodies are read strictly."""
    return APIRouter(prefix=prefix, tags=[tag], route_class=StrictRoute, dependencies=[_BEARER])


def problems(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer with, for its description."""
    told: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, "request.malformed", "request.too-large", "auth.missing", "auth.forbidden", "internal"):
        status, title = CODES[code]
        told.setdefault(status, {"description": title, "model": ProblemBody, "content": {MEDIA_TYPE: {}}})
    return told
