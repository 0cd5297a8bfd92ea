"""`foreword.Client` against real servers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

import foreword as fw
from foreword import client as module
from foreword.client import Answer, Client, Refused
from foreword.errors import ServerError
from foreword.registry import Registry
from foreword.serving.keys import Caller, Keys
from serving_at import Served, served, wait_until
from tiny_writers import train, writer

TEXT = "Anna Smith visited London."
QUESTION = {"question": "Where was Anna?", "context": "Anna was in London with Peter."}


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with Client(server.url, timeout=60) as one:
        yield one


def test_answers_are_those_of_the_server(client: Client, server: Served):
    inputs = [TEXT, {"task": "qa", **QUESTION}]
    predictions = client.predict(inputs, task="colour@champion")
    raw = server.predict(task="colour@champion", inputs=inputs).json()
    assert [answer.value for answer in predictions.answers] == [result["answer"] for result in raw["results"]]
    assert [answer.reference for answer in predictions.answers] == ["colour:1", "qa:1"]
    assert [answer.digest for answer in predictions.answers] == [result["digest"] for result in raw["results"]]
    assert [answer.input for answer in predictions.answers] == [0, 1]
    assert predictions.model == raw["model"]
    assert len(predictions.request_id) == 32
    assert predictions.latency_ms["total"] >= predictions.latency_ms["forward"] > 0


def test_one_input_of_several_tasks(client: Client):
    answers = client.predict({"text": TEXT}, tasks=["colour:2", "ner"]).answers
    assert [answer.task for answer in answers] == ["colour", "ner"]
    assert answers[1].value["text"] == TEXT


def test_an_ensemble_and_its_members(client: Client, server: Served):
    (answer,) = client.predict(TEXT, ensemble=["shape:1", "shape@latest"], vote="majority").answers
    (alone,) = client.predict(TEXT, task="shape").answers
    assert (answer.agreement, answer.version, answer.reference) == (1.0, None, "shape")
    assert [(one.task, one.version, one.digest) for one in answer.members] == [("shape", 1, alone.digest)] * 2
    assert [one.value["label"] for one in answer.members] == [alone.value["label"]] * 2


def test_options_are_sent(client: Client):
    (answer,) = client.predict(QUESTION, task="qa", candidates=2, timeout_ms=60_000).answers
    assert len(answer.value["candidates"]) == 2
    long = "London " * 500
    assert client.predict(long, task="colour").answers[0].notes == ("truncated",)
    with pytest.raises(ServerError, match="too long"):
        client.predict(long, task="colour", truncate=False)


def test_an_input_without_an_answer_leaves_the_others_theirs(client: Client):
    predictions = client.predict([TEXT, {"words": 3}], task="colour")
    answered, refused = predictions.results
    assert isinstance(answered, Answer)
    assert isinstance(refused, Refused)
    assert (refused.input, refused.task) == (1, "colour")
    assert (refused.error.code, refused.error.status) == ("input.invalid", 422)
    assert refused.error.request_id == predictions.request_id
    with pytest.raises(ServerError) as caught:
        _ = predictions.answers
    assert caught.value is refused.error


def test_a_refused_request_is_one_kind_of_error(client: Client):
    with pytest.raises(fw.ForewordError, match="no such task") as caught:
        client.predict(TEXT, task="nothing")
    error = caught.value
    assert isinstance(error, ServerError)
    assert (error.code, error.status, error.field) == ("task.unknown", 404, "task")
    assert len(error.request_id or "") == 32
    with pytest.raises(ServerError, match="inputs"):
        client.predict([], task="colour")


def test_tasks_and_their_versions(client: Client, registry_root: Path):
    registry = Registry(registry_root)
    tasks = client.tasks()
    assert [task.name for task in tasks] == registry.names()
    colour = next(task for task in tasks if task.name == "colour")
    assert (colour.kind, colour.latest, colour.versions) == ("classification", 2, (1, 2))
    assert colour.aliases == {"latest": 2, "champion": 1}
    assert colour.labels == ("colour2-0", "colour2-1")
    assert colour.fields == {"text": True}
    assert colour.details == ()
    assert client.predict(colour.example, task="colour").answers
    details = client.task("colour").details
    assert [(one.version, one.digest) for one in details] == [(v.number, v.digest) for v in registry.versions("colour")]
    assert [one.parameters for one in details] == [v.manifest.parameters.trained for v in registry.versions("colour")]
    for name in ("nothing", "../colour", "a b/c?d#e", "é"):
        with pytest.raises(ServerError) as caught:
            client.task(name)
        assert caught.value.status == 404


def test_texts_are_completed(tmp_path: Path):
    registry = Registry(tmp_path / "registry", create=True)
    train("gpt2", "prefix-tuning").save(tmp_path / "artifact")
    registry.add(tmp_path / "artifact", "stories")
    prompts = ["name : Anna | area : London", "name : Peter | area : Germany"]
    alone = fw.Predictor(registry.open(registry.resolve("stories")), writer("gpt2"))
    expected = tuple(answer["text"] for answer in alone.predict([{"source": prompt} for prompt in prompts]))
    with served(registry, backbone=writer("gpt2")) as server, Client(server.url, timeout=60) as client:
        completion = client.complete(prompts, task="stories")
        assert completion.texts == expected
        assert (completion.task, completion.version) == ("stories", 1)
        assert completion.digest == registry.resolve("stories").digest
        assert completion.prompt_tokens > 0
        assert client.complete(prompts[0], task="stories").texts == expected[:1]


def test_keys(registry_root: Path):
    keys = Keys({sha256(b"the-key-that-is-right").digest(): Caller("me", frozenset({"ner"}))})
    with served(Registry(registry_root), keys=keys) as server:
        with Client(server.url, "the-key-that-is-right") as client:
            assert [task.name for task in client.tasks()] == ["ner"]
        for key, code in ((None, "auth.missing"), ("another", "auth.forbidden")):
            with Client(server.url, key) as client, pytest.raises(ServerError) as caught:
                client.tasks()
            assert caught.value.code == code


class TestBusy:
    """A server with room for one input, which is taken."""

    @pytest.fixture
    def full(self, registry_root: Path) -> Iterator[Served]:
        with served(Registry(registry_root), max_queue=1) as server:
            server.engine.entered.clear()
            server.engine.gate.clear()
            first = threading.Thread(target=lambda: server.predict(task="colour", inputs=[TEXT]))
            first.start()
            wait_until(server.engine.entered.is_set)
            yield server
            server.engine.gate.set()
            first.join()

    def test_it_is_asked_again_when_it_says(self, full: Served, monkeypatch: pytest.MonkeyPatch):
        waited = []

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            full.engine.gate.set()
            wait_until(lambda: full.service.batcher.inside == 0)

        monkeypatch.setattr(module, "time", Clock(sleep))
        with Client(full.url, timeout=60) as client:
            assert client.predict(TEXT, task="colour").answers
        assert len(waited) == 1
        assert waited[0] >= 1

    def test_it_is_not_asked_for_ever(self, full: Served, monkeypatch: pytest.MonkeyPatch):
        waited: list[float] = []
        monkeypatch.setattr(module, "time", Clock(waited.append))
        with Client(full.url, timeout=60, attempts=4) as client, pytest.raises(ServerError) as caught:
            client.predict(TEXT, task="colour")
        assert (caught.value.code, caught.value.status) == ("busy", 429)
        assert len(waited) == 3

    def test_nor_later_than_its_caller_waits(self, full: Served, monkeypatch: pytest.MonkeyPatch):
        waited: list[float] = []
        monkeypatch.setattr(module, "time", Clock(waited.append))
        with Client(full.url, timeout=0.9) as client, pytest.raises(ServerError, match="waiting"):
            client.predict(TEXT, task="colour")
        assert waited == []


class Clock:
    """Time that stands still, so that only waiting is looked at."""

    def __init__(self, sleep) -> None:
        self.sleep = sleep

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("status", "header", "low", "high"),
    [
        (429, "7", 7, 7),
        (429, "0", 0, 0),
        (429, "in an hour", 3000, 3600),
        (429, "Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        (429, "soon", None, None),
        (429, "-3", None, None),
        (429, "", None, None),
        (503, "7", None, None),
        (200, "7", None, None),
    ],
)
def test_when_to_ask_again(status: int, header: str, low: float | None, high: float | None):
    if header == "in an hour":
        header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    wait = module._retry_after(httpx.Response(status, headers={"Retry-After": header}))
    assert wait is None if low is None else low <= wait <= high


@pytest.mark.parametrize(("status", "body"), [(200, b"<h1>Hello</h1>"), (502, b"<h1>Bad Gateway</h1>"), (500, b"[]")])
def test_what_is_no_server_of_ours_is_told(status: int, body: bytes):
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever).start()
        try:
            with Client(f"http://127.0.0.1:{other.server_port}") as client, pytest.raises(ServerError) as caught:
                client.tasks()
            assert (caught.value.code, caught.value.status) == ("server.failed", status)
        finally:
            other.shutdown()
        port = other.server_port
    with Client(f"http://127.0.0.1:{port}") as client, pytest.raises(ServerError, match="no answer") as caught:
        client.tasks()
    assert (caught.value.code, caught.value.status) == ("server.unreachable", None)


def test_a_path_in_front_of_the_servers_own_is_kept():
    with Client("http://localhost:1/behind/proxy") as client:
        assert client._http.build_request("GET", "v1/tasks").url == "http://localhost:1/behind/proxy/v1/tasks"


def test_it_is_closed_when_left():
    with Client("http://localhost:1") as client:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        client.tasks()
    with pytest.raises(ValueError, match="attempts"):
        Client("http://localhost:1", attempts=0)
    with pytest.raises(ValueError, match="http://localhost:8000"):
        Client("localhost:8000")


def test_it_goes_without_torch():
    """Whoever asks a server need not wait for what only the server needs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(fw.__file__).parents[1])}
    command = [sys.executable, "-X", "importtime", "-c", "import foreword; foreword.Client"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "httpx" in imported
    assert imported & {"torch", "transformers", "numpy", "pydantic", "fastapi"} == set()
