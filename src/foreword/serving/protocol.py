"""uvicorn's HTTP/1.1 protocol with a time limit for the arrival of a request, and a word before it is read.

uvicorn waits for a head or a body as long as a client likes to trickle it. Here a connection is cut if a request is
not there whole within some seconds of its first byte, or nothing comes after connecting. And what is to be refused
anyway (`foreword.serving.doorstep`) is answered before it is parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol


class ReceiptProtocol(H11Protocol):
    """A connection. Subclasses of `receipt_protocol` set the three values."""

    receipt: float
    on_cut: Callable[[], None]
    refuse: Callable[[bytes], Response | None]

    _limit: asyncio.TimerHandle | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.access_log = False  # it would write addresses as they were sent, whatever the settings of logging are

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request is awaited from now on."""
        super().connection_made(transport)
        self._limit = self.loop.call_later(self.receipt, self.cut)

    def data_received(self, data: bytes) -> None:
        """Some of a request, or the last of it."""
        if self._idle and (refusal := self.refuse(data)) is not None:
            self._answer(refusal)
        else:
            super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may be there already, in part."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._forget()
        super().connection_lost(exc)

    @property
    def arriving(self) -> bool:
        """Whether a request is there in part."""
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        return begun or self.conn.their_state is h11.SEND_BODY

    @property
    def working(self) -> bool:
        """Whether a request is there whole and its answer is not out."""
        return self.cycle is not None and not self.cycle.response_complete and not self.arriving

    @property
    def _idle(self) -> bool:
        """Whether nothing of a request is here, and no answer is under way."""
        busy = self.cycle is not None and not self.cycle.response_complete
        return not busy and self.conn.states == {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE} and not self.arriving

    def _answer(self, response: Response) -> None:
        """Send an answer past the parser, which then knows nothing of the request, and wait for the next."""
        lines = [b"HTTP/1.1 %d %s" % (response.status_code, HTTPStatus(response.status_code).phrase.encode())]
        lines += [b"%s: %s" % header for header in (*self.server_state.default_headers, *response.raw_headers)]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def cut(self) -> None:
        """End the connection."""
        self._forget()
        if not self.transport.is_closing():
            self.on_cut()
            self.transport.abort()

    def _watch(self) -> None:
        if not self.arriving:
            self._forget()
        elif self._limit is None:
            self._limit = self.loop.call_later(self.receipt, self.cut)

    def _forget(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None


def receipt_protocol(
    receipt: float, on_cut: Callable[[], None], refuse: Callable[[bytes], Response | None]
) -> type[ReceiptProtocol]:
    """A protocol for `uvicorn.Config(http=...)`.

    Args:
        receipt: seconds within which a request must have arrived.
        on_cut: called when a connection is cut.
        refuse: an answer to what arrived, if it is to be refused without being read.
    """
    values: dict[str, Any] = {"receipt": receipt, "on_cut": staticmethod(on_cut), "refuse": staticmethod(refuse)}
    return type("LimitedReceipt", (ReceiptProtocol,), values)
