"""`GET /`: the playground, one page that asks the other routes."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

routes = APIRouter()


@routes.get("/", include_in_schema=False)
def playground() -> HTMLResponse:
    """The page."""
    return HTMLResponse(files("foreword.serving").joinpath("playground/index.html").read_text("utf-8"))
