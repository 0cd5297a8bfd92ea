"""A small HTTP client for load: keep-alive connections on asyncio streams, closed and open loop."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        status: 0 where the connection failed.
        body: its JSON.
        due, sent, done: when it should have been sent, was sent, and was there (`time.perf_counter`).
    """

    status: int
    body: dict[str, Any]
    due: float
    sent: float
    done: float

    @property
    def seconds(self) -> float:
        """From when it was due, so that a client that is late itself does not look fast."""
        return self.done - self.due


class Pool:
    """Connections to one server, opened as they are needed."""

    def __init__(self, port: int, headers: dict[str, str] | None = None) -> None:
        self._port, self._free = port, []  # type: ignore[var-annotated]
        self._extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())

    async def ask(self, method: str, path: str, body: Any, due: float | None = None) -> Answer:
        """One request."""
        content = json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: x\r\n{self._extra}content-type: application/json\r\n"
            f"content-length: {len(content)}\r\n\r\n"
        )
        sent = time.perf_counter()
        due = sent if due is None else due
        try:
            reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(head.encode() + content)
            status, told, close = await _read(reader)
        except (OSError, EOFError, ValueError):
            return Answer(0, {}, due, sent, time.perf_counter())
        done = time.perf_counter()
        if close:
            writer.close()
        else:
            self._free.append((reader, writer))
        return Answer(status, told, due, sent, done)

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()
        self._free.clear()


async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any], bool]:
    lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
    content = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    return int(lines[0].split()[1]), json.loads(content or b"{}"), headers.get(b"connection") == b"close"


async def closed_loop(ask: Callable[[Any], Awaitable[Answer]], bodies: Sequence[Any], clients: int) -> list[Answer]:
    """All bodies, by so many clients that each wait for their answer."""
    waiting: Iterator[Any] = iter(bodies)

    async def client() -> list[Answer]:
        return [await ask(body) for body in waiting]

    return [answer for answers in await asyncio.gather(*(client() for _ in range(clients))) for answer in answers]


async def open_loop(
    ask: Callable[[Any, float], Awaitable[Answer]],
    body: Callable[[random.Random], Any],
    *,
    rate: float,
    seconds: float,
    seed: int,
) -> list[Answer]:
    """Requests that come as they come (Poisson), whether or not earlier ones were answered."""
    generator, tasks = random.Random(seed), []
    due = time.perf_counter()
    until = due + seconds
    while (due := due + generator.expovariate(rate)) < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(body(generator), due)))  # type: ignore[arg-type]
    return list(await asyncio.gather(*tasks))
