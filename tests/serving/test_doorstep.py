"""Refusals before a request is parsed are those that it would get afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h11
import pytest

from foreword.registry import Registry
from foreword.serving.doorstep import Doorstep
from foreword.serving.keys import read_keys
from serving_at import GENEROUS, Served, served, wait_until

BODY = json.dumps({"task": "colour", "inputs": ["Anna Smith visited London."]}).encode()
KEY = "open-sesame"


def request(*headers: str, path: str = "/v1/predict", body: bytes = BODY, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = [f"POST {path} HTTP/1.1", "Host: here", f"Content-Length: {size}", "Content-Type: application/json"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + body


CHUNKED = (
    b"POST /v1/predict HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
)
ORDINARY = {
    "plain": request(),
    "kept alive": request("CONNECTION: Keep-Alive", "Accept: */*"),
    "named": request("x-request-id: mine-7"),
    "completions": request(path="/v1/completions", body=b"{}"),
    "empty": request(body=b""),
}
OTHERS = {
    "chunked": CHUNKED,
    "closing": request("connection: close"),
    "waiting for a word": request("expect: 100-continue"),
    "two lengths": request(f"content-length: {len(BODY)}"),
    "in part": request(length=len(BODY) + 1),
    "with another behind it": request() + request(),
    "no host": request().replace(b"Host: here\r\n", b""),
    "another version": request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "another address": request(path="/v1/tasks"),
    "a query": request(path="/v1/predict?x=1"),
    "a folded header": request("a: b\r\n c"),
    "another method": request().replace(b"POST", b"PUT"),
    "nonsense": b"\x16\x03\x01",
    "nothing": b"",
}


@pytest.fixture
def full(registry_root: Path) -> Iterator[Served]:
    """A server that has room for a single input, which it is working on."""
    with served(Registry(registry_root), max_queue=1) as server, ThreadPoolExecutor(1) as pool:
        server.engine.gate.clear()
        first = pool.submit(server.predict, task="colour", inputs=["A text."])
        wait_until(lambda: server.service.batcher.inside == 1)
        yield server
        server.engine.gate.set()
        assert first.result().status_code == 200


class Connection:
    """One connection, read by a parser of its own."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=GENEROUS)

    def ask(self, *parts: bytes) -> tuple[int, dict[str, str], Any]:
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        for part in parts:
            self._socket.sendall(part)
        status, headers, body = 0, {}, b""
        while True:
            match parser.next_event():
                case h11.NEED_DATA:
                    parser.receive_data(self._socket.recv(65536))
                case h11.Response() as response:
                    status = response.status_code
                    headers = {name.decode(): value.decode() for name, value in response.headers}
                case h11.Data() as data:
                    body += bytes(data.data)
                case _:
                    return status, headers, json.loads(body)

    def close(self) -> None:
        self._socket.close()


def alike(answer: tuple[int, dict[str, str], Any]) -> Any:
    """What does not depend on when and under which id it was given."""
    status, headers, body = answer
    assert headers["x-request-id"] == body["request_id"]
    assert int(headers["content-length"]) > 0
    own = ("date", "x-request-id", "content-length", "connection")
    return status, {k: v for k, v in headers.items() if k not in own}, {**body, "request_id": ""}


def refusals(server: Served, asked: dict[str, bytes]) -> dict[str, int | None]:
    """Statuses of what is refused at the doorstep; None for what goes the usual way."""

    async def go() -> dict[str, int | None]:
        doorstep = Doorstep(server.service)
        found = {name: doorstep(data) for name, data in asked.items()}
        return {name: None if one is None else one.status_code for name, one in found.items()}

    return asyncio.run(go())


def test_it_knows_the_ordinary_ones_only(full: Served):
    assert refusals(full, ORDINARY) == dict.fromkeys(ORDINARY, 429)
    assert refusals(full, OTHERS) == dict.fromkeys(OTHERS)


def test_it_refuses_nobody_while_there_is_room(server: Served):
    assert refusals(server, ORDINARY) == dict.fromkeys(ORDINARY)


def test_the_log_has_their_number_and_no_line_for_each(full: Served, caplog):
    async def go() -> None:
        doorstep = Doorstep(full.service)
        for _ in range(7):
            assert doorstep(ORDINARY["plain"]) is not None
        while "refused" not in caplog.messages:
            await asyncio.sleep(0.05)

    with caplog.at_level("INFO", "foreword.serving"):
        asyncio.run(asyncio.wait_for(go(), GENEROUS))
    (line,) = [one for one in caplog.records if one.name == "foreword.serving.doorstep"]
    assert line.facts == {"status": 429, "requests": 7}


def test_the_same_answer_as_the_usual_way_and_the_connection_goes_on(full: Served):
    asked = full.metric("foreword_requests_total", route="unknown", status="429")
    refused = full.metric("foreword_rejected_total", reason="inputs")
    usual = [Connection(full.port).ask(CHUNKED), Connection(full.port).ask(request("expect: x"))]
    connection = Connection(full.port)
    quick = [connection.ask(ORDINARY["plain"]), connection.ask(ORDINARY["named"]), connection.ask(ORDINARY["empty"])]
    halves = connection.ask(request()[:30], request()[30:])
    assert quick[1][1]["x-request-id"] == "mine-7"
    assert [alike(answer) for answer in [*usual, *quick, halves]] == [alike(usual[0])] * 6
    assert full.metric("foreword_requests_total", route="unknown", status="429") == asked + 6
    assert full.metric("foreword_rejected_total", reason="inputs") == refused + 6
    full.engine.gate.set()
    wait_until(lambda: full.service.batcher.inside == 0)
    status, _, body = connection.ask(request())
    assert (status, len(body["results"])) == (200, 1)
    connection.close()


def test_who_has_no_key_is_told_that_and_not_that_it_is_full(registry_root: Path, tmp_path: Path):
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[friend]\nsha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"\n')
    with served(Registry(registry_root), max_queue=1, keys=read_keys(keys)) as server:
        server.service.batcher.admit(1)
        connection = Connection(server.port)
        assert connection.ask(request())[0] == 401
        assert connection.ask(request("authorization: Bearer wrong"))[0] == 403
        assert connection.ask(request(f"authorization: Bearer {KEY}"))[0] == 429
        server.service.batcher.release(1)
        assert connection.ask(request(f"authorization: Bearer {KEY}"))[0] == 200
        connection.close()
