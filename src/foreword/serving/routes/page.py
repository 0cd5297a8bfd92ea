"""`GET /`: the playground, one page that asks the other routes."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from foreword.serving.playground import page

routes = APIRouter()


@routes.get("/", include_in_schema=False)
def playground() -> HTMLResponse:
    """The page."""
    html, policy = page()
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})
