"""The process: listening, and going when it is told to, with everything answered that was begun."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI

from foreword.serving.doorstep import Doorstep
from foreword.serving.protocol import ReceiptProtocol, receipt_protocol
from foreword.serving.service import Service

_TICK = 0.05


class Server(uvicorn.Server):
    """uvicorn's server, which on SIGTERM first says that it is leaving, then finishes, then closes.

    Between the signal and the last answer new connections are still accepted: `/readyz` and new work get 503 with
    ``Connection: close``. Then connections whose request never arrived are cut, and uvicorn closes the rest.
    """

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: from now on nothing new is taken."""
        self._service.draining = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what was begun, then close."""
        settings, began = self._service.settings, time.monotonic()
        self._service.draining = True
        while (past := time.monotonic() - began) < settings.grace and not self.force_exit:
            if past >= settings.notice and not any(one.working for one in self._open()):
                break
            await asyncio.sleep(_TICK)
        for connection in self._open():
            if connection.arriving:
                connection.cut()
        await super().shutdown(sockets)

    def _open(self) -> list[ReceiptProtocol]:
        return [one for one in self.server_state.connections if isinstance(one, ReceiptProtocol)]


def make_server(app: FastAPI) -> Server:
    """A server for an app of `create_app`; ``run`` it with the socket of `listening_socket`."""
    service: Service = app.state.service
    settings = service.settings
    config = uvicorn.Config(
        app,
        http=receipt_protocol(settings.receipt, service.metrics.slow_clients.inc, Doorstep(service)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=settings.max_headers,
        timeout_keep_alive=settings.keep_alive,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=math.ceil(min(settings.grace, 5.0)),
    )
    return Server(config, service)


def listening_socket(host: str, port: int) -> socket.socket:
    """A socket to serve at.

    Args:
        host: name or address of this machine.
        port: 0 for any that is free.

    Raises:
        OSError: it is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)
