"""`foreword serve --ray` as a user runs it: a cluster of its own, two replicas, one of them killed, and a drain."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'foreword[ray]'")

from foreword.registry import Registry
from serving_at import canary, served
from tiny import tiny_backbone_folder

PATIENT = 480.0
"""Seconds for what starts processes that import torch, on a machine that does other things too."""
CLIENTS = 6
TEXTS = ["Anna went home", "nobody", "a letter from London to Germany, and it was long"]


def wait_until(happened: Any) -> None:
    until = time.monotonic() + PATIENT
    while not happened():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.05)


@dataclass
class Running:
    """The command, and what it started."""

    process: subprocess.Popen[bytes]
    url: str
    registry: Registry
    log: Path
    client: httpx.Client

    def predict(self, **body: Any) -> httpx.Response:
        return self.client.post("/v1/predict", json=body)

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def replicas(self) -> list[psutil.Process]:
        found = []
        for one in self.family():
            try:
                if one.status() != psutil.STATUS_ZOMBIE and one.cmdline()[0].startswith("ray::ServeReplica"):
                    found.append(one)
            except (psutil.Error, IndexError):
                continue
        return found

    def serving(self, ask: Any = None) -> dict[str, httpx.Response]:
        """The last answer of each of two replicas."""
        seen: dict[str, httpx.Response] = {}

        def both() -> bool:
            answer = ask() if ask else self.client.get("/readyz")
            seen[answer.headers.get("x-served-by", "")] = answer
            return len(seen) == 2

        wait_until(both)
        assert "" not in seen, seen[""].text
        return seen


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    scratch = tmp_path_factory.mktemp("ray")
    registry = Registry(scratch / "registry", create=True)
    for number in (1, 2):
        registry.add(canary(f"colour{number}", number, scratch / f"colour{number}"), "colour")
    registry.set_alias("colour", "champion", 1)
    registry.add(canary("shape", 3, scratch / "shape"), "shape")
    backbone, log = tiny_backbone_folder("bert", scratch / "bert"), scratch / "log"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    options = ["--backbone", backbone, "--port", port, "--ray", "--replicas", 2]
    command = [sys.executable, "-m", "foreword", "serve", registry.root, *options]
    source = Path(__file__).parents[2] / "src"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(source), "RAY_AUTH_TOKEN": "0123456789" * 4, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as out:
        process = subprocess.Popen([str(one) for one in command], stderr=out, stdout=out, env=environment)
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=PATIENT, trust_env=False) as client:
        one = Running(process, url, registry, log, client)
        try:
            wait_until(lambda: "Serving 2 tasks" in log.read_text() or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            one.serving()
            yield one
        finally:
            family = one.family() if process.poll() is None else []
            process.terminate()
            process.wait(PATIENT)
            for left in family:
                if left.is_running():
                    left.kill()


@dataclass
class Load:
    """What clients got that ask one thing after the other."""

    answers: list[httpx.Response] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self, url: str) -> None:
        body = {"task": "colour@champion", "inputs": TEXTS}
        while not self.stopped.is_set():
            try:
                self.answers.append(httpx.post(f"{url}/v1/predict", json=body, timeout=PATIENT, trust_env=False))
            except httpx.TransportError as error:
                self.cut.append(type(error).__name__)
            time.sleep(0.05)  # a replica that starts needs a processor too

    def statuses(self) -> list[int]:
        return [answer.status_code for answer in self.answers]


@contextmanager
def load(url: str) -> Iterator[Load]:
    one = Load()
    threads = [threading.Thread(target=one.ask, args=(url,)) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(one.answers) > 4 * CLIENTS)
        yield one
    finally:
        one.stopped.set()
        for thread in threads:
            thread.join(PATIENT)


def told(answer: httpx.Response) -> Any:
    """What does not depend on when and by whom it was answered; probabilities to three digits."""
    body = {name: value for name, value in answer.json().items() if name not in ("request_id", "latency_ms", "batch")}

    def rounded(value: Any) -> Any:
        match value:
            case float():
                return pytest.approx(value, abs=2e-3)
            case dict():
                return {name: rounded(one) for name, one in value.items() if name != "request_id"}
            case list():
                return [rounded(one) for one in value]
        return value

    return answer.status_code, answer.headers["content-type"], rounded(body)


def check_canaries(answer: httpx.Response) -> None:
    """Labels are those of the version that the answer names."""
    for result in answer.json()["results"]:
        assert result["answer"]["label"].startswith(f"colour{result['version']}-")


def test_every_replica_answers_as_the_plain_app_does(running):
    bodies = [
        {"task": "colour", "inputs": TEXTS},
        {"tasks": ["shape", "colour:1"], "inputs": [{"text": text} for text in TEXTS]},
        {"ensemble": {"members": ["colour:1", "colour:1"], "vote": "mean"}, "inputs": TEXTS[:1]},
        {"task": "nothing", "inputs": TEXTS[:1]},
        {"task": "colour", "inputs": TEXTS, "unknown": 1},
    ]
    with served(Registry(running.registry.root)) as plain:
        for body in bodies:
            expected = told(plain.predict(**body))
            answers = running.serving(lambda body=body: running.predict(**body))
            assert [told(answer) for answer in answers.values()] == [expected] * 2
        catalogue = plain.client.get("/v1/tasks").json()["tasks"]
    ours = running.client.get("/v1/tasks").json()["tasks"]
    apart = {"resident": None, "last_used": None}
    assert [one | apart for one in ours] == [one | apart for one in catalogue]


def test_a_request_keeps_its_id(running):
    answer = running.client.post(
        "/v1/predict", json={"task": "colour", "inputs": TEXTS[:1]}, headers={"x-request-id": "mine-1"}
    )
    assert answer.headers.get_list("x-request-id") == ["mine-1"]
    assert answer.json()["request_id"] == "mine-1"
    other = running.predict(task="colour", inputs=TEXTS[:1])
    assert other.headers.get_list("x-request-id") == [other.json()["request_id"]]


def test_a_moved_alias_is_seen_by_both_replicas(running):
    ask = lambda: running.predict(task="colour@champion", inputs=TEXTS[:1])  # noqa: E731
    version = lambda answer: answer.json()["results"][0]["version"]  # noqa: E731
    before = version(ask())
    new = 3 - before
    with load(running.url) as some:
        running.registry.set_alias("colour", "champion", new)
        wait_until(lambda: {version(answer) for answer in running.serving(ask).values()} == {new})
    assert set(some.statuses()) == {200}
    for answer in some.answers:
        check_canaries(answer)
    assert {version(answer) for answer in running.serving(ask).values()} == {new}


def test_only_the_token_opens_the_cluster(running):
    """No port takes a job from who shows no token, and who has another one is refused."""
    ports = {
        connection.laddr.port
        for process in running.family()
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ports
    for port in ports:
        try:
            found = httpx.post(
                f"http://127.0.0.1:{port}/api/jobs/", json={"entrypoint": "true"}, timeout=20, trust_env=False
            )
        except httpx.TransportError:
            continue
        metrics = found.headers.get("content-type", "").startswith("text/plain; version=")  # whatever is asked of it
        assert metrics or found.status_code in (401, 403, 404, 405), (port, found.status_code, found.text[:200])
    raylet = next(" ".join(one.cmdline()) for one in running.family() if one.name() == "raylet")
    address = re.search(r"--gcs-address=(\S+)", raylet)[1]
    program = f"import ray; ray.init({address!r}, logging_level='ERROR'); print(ray.nodes())"
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "9876543210" * 4}
    command = [sys.executable, "-c", program]
    stranger = subprocess.run(command, env=environment, capture_output=True, timeout=PATIENT, check=False)
    assert stranger.returncode != 0
    assert b"NodeID" not in stranger.stdout


def test_a_killed_replica_loses_only_what_it_was_answering(running):
    before = set(running.serving())
    with load(running.url) as some:
        running.replicas()[0].kill()
        wait_until(lambda: len(running.replicas()) == 2)
        wait_until(lambda: len(running.serving().keys() - before) == 1)
        enough = len(some.answers) + 10 * CLIENTS
        wait_until(lambda: len(some.answers) > enough)
    lost = len(some.cut) + sum(status != 200 for status in some.statuses())
    assert lost <= CLIENTS, (some.cut, some.statuses())
    assert set(some.statuses()[-5 * CLIENTS :]) == {200}
    for answer in some.answers:
        if answer.status_code == 200:
            check_canaries(answer)


def test_told_to_stop_it_finishes_what_was_begun_and_leaves_nothing(running):
    family = running.family()
    with load(running.url) as some:
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENT) == 0
    statuses = some.statuses()
    assert set(statuses) <= {200, 503, 404}, statuses  # 404 is Ray's word where nothing is served any more
    assert some.cut or set(statuses) != {200}  # the load went on until nothing was served
    refused = [answer for answer in some.answers if answer.status_code == 503]
    assert {answer.json()["code"] for answer in refused} <= {"draining"}
    assert set(some.cut) <= {"ConnectError", "RemoteProtocolError", "ReadError"}
    wait_until(lambda: not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
    assert "Traceback" not in running.log.read_text()
    assert TEXTS[0] not in running.log.read_text()
