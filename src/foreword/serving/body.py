"""JSON from strangers: parsed by a parser that bounds depth and refuses what is no JSON, NaN and broken characters."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from foreword.serving.problems import Problem


class StrictRequest(Request):
    """A request whose JSON is parsed once, by pydantic's parser (at most some 200 levels deep)."""

    async def json(self) -> Any:
        """The body.

        Raises:
            Problem: it is no JSON.
        """
        if not hasattr(self, "_json"):
            try:
                self._json = from_json(await self.body(), allow_inf_nan=False)
            except ValueError:
                raise Problem(
                    "request.malformed", "The body is not JSON, or is nested too deeply", status=400
                ) from None
        return self._json


class StrictRoute(APIRoute):
    """A route that reads its body as `StrictRequest` does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given our kind of request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return strict
