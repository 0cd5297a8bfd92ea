"""Too much, too late, too slow, and changes meanwhile."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from foreword.registry import Registry
from serving_at import GENEROUS, Served, served, wait_until

TEXT = "Anna Smith visited London."


@pytest.fixture
def small(registry_root: Path) -> Served:
    """A server with little room."""
    with served(Registry(registry_root), max_queue=4, receipt=1.0) as one:
        yield one


def held(server: Served) -> None:
    """Let the next pass begin, and stay in it."""
    server.engine.entered.clear()
    server.engine.gate.clear()


class Asking:
    """Requests in threads of their own."""

    def __init__(self, server: Served) -> None:
        self.server, self.pool = server, ThreadPoolExecutor(64)

    def __call__(self, **body: Any) -> Any:
        return self.pool.submit(self.server.predict, **body)


def test_what_does_not_fit_is_refused_at_once_and_told_when_to_come_again(small: Served):
    ask = Asking(small)
    held(small)
    first = [ask(task="colour", inputs=[TEXT]) for _ in range(3)]
    wait_until(lambda: small.service.batcher.inside == 3)
    single = ask(task="colour", inputs=[TEXT])
    wait_until(lambda: small.service.batcher.inside == 4)
    for inputs in ([TEXT], [TEXT, TEXT]):
        response = small.predict(task="colour", inputs=inputs)
        assert (response.status_code, response.json()["code"]) == (429, "busy")
        assert 1 <= int(response.headers["retry-after"]) <= 60
    assert small.client.get("/readyz").status_code == 200
    small.engine.gate.set()
    assert [one.result().status_code for one in [*first, single]] == [200] * 4
    assert small.predict(task="colour", inputs=[TEXT]).status_code == 200
    response = small.predict(task="colour", inputs=[TEXT] * 5)
    assert response.status_code == 429  # more than would ever fit
    assert small.metric("foreword_rejected_total", reason="inputs") == 3
    assert small.service.batcher.inside == 0


def test_what_is_late_is_told_so_and_never_computed(server: Served):
    ask = Asking(server)
    held(server)
    ran, before = len(server.engine.ran), server.metric("foreword_unwanted_total", reason="deadline")
    first = ask(task="shape", inputs=[TEXT])
    assert server.engine.entered.wait(GENEROUS)
    response = server.predict(task="ner", inputs=[TEXT, TEXT], options={"timeout_ms": 50})
    assert (response.status_code, response.json()["code"]) == (504, "deadline")
    server.engine.gate.set()
    assert first.result().status_code == 200
    assert server.predict(task="qa", inputs=[{"question": "Who?", "context": TEXT}]).status_code == 200
    assert [[job.handle.task for job in jobs] for jobs in server.engine.ran[ran:]] == [["shape"], ["qa"]]
    assert server.metric("foreword_unwanted_total", reason="deadline") - before == 2


def test_what_nobody_waits_for_any_more_is_never_computed(server: Served):
    ask = Asking(server)
    held(server)
    ran, before = len(server.engine.ran), server.metric("foreword_unwanted_total", reason="gone")
    first = ask(task="shape", inputs=[TEXT])
    assert server.engine.entered.wait(GENEROUS)
    with pytest.raises(httpx.ReadTimeout):
        server.client.post("/v1/predict", json={"task": "ner", "inputs": [TEXT]}, timeout=0.2)
    wait_until(lambda: server.metric("foreword_unwanted_total", reason="gone") == before + 1)
    server.engine.gate.set()
    assert first.result().status_code == 200
    assert [[job.handle.task for job in jobs] for jobs in server.engine.ran[ran:]] == [["shape"]]
    wait_until(lambda: server.service.batcher.inside == 0)


def test_tasks_share_passes(server: Served):
    ask = Asking(server)
    held(server)
    ran = len(server.engine.ran)
    first = ask(task="shape", inputs=[TEXT])
    assert server.engine.entered.wait(GENEROUS)
    others = [ask(task=task, inputs=[TEXT]) for task in ("colour:1", "colour:2", "shape", "ner")]
    wait_until(lambda: server.service.batcher.waiting[0] == 4)
    server.engine.gate.set()
    answers = [one.result().json() for one in [first, *others]]
    assert len(server.engine.ran) - ran == 2
    assert answers[1]["batch"] == {"rows": 4, "tasks": 3}


def test_a_flood_of_one_task_does_not_keep_another_out(registry_root: Path):
    with served(Registry(registry_root), batch_rows=4, quantum=64) as server:
        ask = Asking(server)
        held(server)
        flood = [ask(task="colour", inputs=[TEXT] * 20) for _ in range(10)]
        wait_until(lambda: server.service.batcher.waiting[0] >= 190)
        quiet = ask(task="shape", inputs=[TEXT])
        wait_until(lambda: server.service.batcher.waiting[0] >= 191)
        server.engine.gate.set()
        assert quiet.result().status_code == 200
        assert all(one.result().status_code == 200 for one in flood)
        places = [n for n, jobs in enumerate(server.engine.ran) if any(job.handle.task == "shape" for job in jobs)]
        flooded = [n for n, jobs in enumerate(server.engine.ran) if any(job.handle.task == "colour" for job in jobs)]
        assert len(flooded) >= 50
        assert places[-1] <= 8  # of fifty and more passes


def test_metrics_are_what_clients_counted(registry_root: Path):
    with served(Registry(registry_root)) as server:
        ask = Asking(server)
        bodies: list[dict[str, Any]] = [
            {"task": ("colour", "shape", "ner", "nothing")[n % 4], "inputs": [TEXT] * (n % 3 + 1)} for n in range(60)
        ]
        bodies += [{"task": "colour", "inputs": []}] * 5
        futures = [ask(**body) for body in bodies]
        responses = [future.result() for future in futures]
        seen = Counter(str(response.status_code) for response in responses)
        assert {
            status: server.metric("foreword_requests_total", route="/v1/predict", status=status) for status in seen
        } == dict(seen)
        results = Counter(
            (result["task"], "ok") for r in responses if r.status_code == 200 for result in r.json()["results"]
        )
        for (task, code), count in results.items():
            assert server.metric("foreword_inputs_total", task=task, code=code) == count
        unknown = sum(len(body["inputs"]) for body in bodies if body["task"] == "nothing")
        assert server.metric("foreword_inputs_total", task="none", code="task.unknown") == unknown
        tested = 3  # inputs of the self-test and of its company
        assert server.metric("foreword_queue_seconds_count") >= sum(results.values()) + tested
        text = server.client.get("/metrics").text
        assert "foreword_prompts_resident_bytes" in text
        assert "foreword_prompt_loads_total" in text
        assert 'task="nothing"' not in text


def test_labels_of_metrics_are_bounded():
    from foreword.serving.metrics import MOST_TASKS, OTHER, Metrics

    metrics = Metrics(dict)
    for number in range(MOST_TASKS + 50):
        metrics.result(f"task{number}", "ok")
    found = metrics.registry.get_sample_value("foreword_inputs_total", {"task": OTHER, "code": "ok"})
    assert found == 50


class TestSwaps:
    def test_an_alias_that_moves_under_load_fails_nothing_and_mixes_nothing(self, registry_root: Path, tmp_path: Path):
        shutil.copytree(registry_root, tmp_path / "registry")
        writer = Registry(tmp_path / "registry")
        digests = {version.digest: f"colour{version.number}-" for version in writer.versions("colour")}
        stop, failures, seen = threading.Event(), [], Counter()

        def ask(server: Served) -> None:
            while not stop.is_set():
                body = {"task": "colour@champion", "inputs": [TEXT, "it", "Peter"]}
                response = server.client.post("/v1/predict", json=body)
                results = response.json().get("results", [])
                for result in results:
                    label = result.get("answer", {}).get("label", "")
                    if response.status_code != 200 or not label.startswith(digests[result["digest"]]):
                        failures.append(response.text)
                if len({result["digest"] for result in results}) != 1:
                    failures.append(f"two versions in one answer: {response.text}")
                seen[results[0]["digest"]] += 1

        with served(Registry(tmp_path / "registry"), poll=0.02) as server:
            threads = [threading.Thread(target=ask, args=(server,)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for number in range(20):
                writer.set_alias("colour", "champion", number % 2 + 1)
                version = writer.resolve("colour@champion")
                wait_until(lambda wanted=version: server.engine.resolve("colour@champion").digest == wanted.digest)
                (result,) = server.predict(task="colour@champion", inputs=[TEXT]).json()["results"]
                assert result["digest"] == version.digest
            stop.set()
            for thread in threads:
                thread.join()
            assert failures == []
            assert all(seen[digest] for digest in digests)
            wait_until(lambda: server.metric("foreword_registry_changes_total") >= 15)

    def test_a_version_in_flight_is_the_one_of_admission(self, registry_root: Path, tmp_path: Path):
        shutil.copytree(registry_root, tmp_path / "registry")
        with served(Registry(tmp_path / "registry")) as server:
            ask = Asking(server)
            held(server)
            first = ask(task="shape", inputs=[TEXT])
            assert server.engine.entered.wait(GENEROUS)
            before = ask(task="colour@champion", inputs=[TEXT])
            wait_until(lambda: server.service.batcher.waiting[0] == 1)
            server.service.registry.set_alias("colour", "champion", 2)
            after = ask(task="colour@champion", inputs=[TEXT])
            wait_until(lambda: server.service.batcher.waiting[0] == 2)
            server.engine.gate.set()
            assert first.result().status_code == 200
            assert [one.result().json()["results"][0]["version"] for one in (before, after)] == [1, 2]
            labels = [one.result().json()["results"][0]["answer"]["label"][:7] for one in (before, after)]
            assert labels == ["colour1", "colour2"]


HEAD = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500\r\n"


class TestSlowClients:
    @pytest.mark.parametrize(
        "sent",
        [[], [b"POST /v1"], [b"G", b"E", b"T", b" "], [HEAD, b"\r\n"], [HEAD, b"\r\n", b'{"task"', b":", b'"x', b"y"]],
        ids=["idle", "half a head", "a head that trickles", "no body", "a body that trickles"],
    )
    def test_a_request_that_does_not_arrive_is_cut(self, small: Served, sent: list[bytes]):
        with socket.create_connection(("127.0.0.1", small.port)) as one:
            one.settimeout(0.3)
            parts, cut = iter(sent), False
            for _ in range(40):
                try:
                    one.sendall(next(parts, b""))
                    cut = one.recv(1000) == b""
                except TimeoutError:
                    continue
                except ConnectionError:
                    cut = True
                if cut:
                    break
            assert cut
        assert small.metric("foreword_slow_clients_total") == 1
        assert small.predict(task="shape", inputs=[TEXT]).status_code == 200
        assert small.service.batcher.inside == 0

    def test_many_at_once_do_not_keep_others_out(self, small: Served):
        slow = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(60)]
        for number, one in enumerate(slow):
            one.sendall([b"POST /v1", HEAD + b"\r\n{"][number % 2])
        for _ in range(5):
            assert small.predict(task="shape", inputs=[TEXT]).status_code == 200
        wait_until(lambda: small.metric("foreword_slow_clients_total") == 60)
        for one in slow:
            one.close()

    def test_an_answer_that_takes_long_is_not_cut(self, small: Served):
        ask = Asking(small)
        held(small)
        slow = ask(task="shape", inputs=[TEXT])
        assert small.engine.entered.wait(GENEROUS)
        time.sleep(1.5)  # longer than a request may take to arrive
        small.engine.gate.set()
        assert slow.result().status_code == 200

    def test_requests_one_behind_the_other_are_all_answered(self, small: Served):
        body = b'{"task": "shape", "inputs": ["it"]}'
        head = HEAD.replace(b"500", str(len(body)).encode())
        with socket.create_connection(("127.0.0.1", small.port)) as one:
            one.settimeout(GENEROUS)
            one.sendall((head + b"\r\n" + body) * 3)
            answer = b""
            while answer.count(b"HTTP/1.1 200") < 3 or not answer.endswith(b"}"):
                answer += one.recv(10_000)


class TestDraining:
    def test_what_was_begun_is_finished_and_nothing_new_is_taken(self, registry_root: Path):
        with served(Registry(registry_root), grace=GENEROUS) as server:
            ask = Asking(server)
            held(server)
            inside = [ask(task=task, inputs=[TEXT]) for task in ("shape", "colour", "ner")]
            wait_until(lambda: server.service.batcher.inside == 3)
            stalled = socket.create_connection(("127.0.0.1", server.port))
            stalled.sendall(HEAD + b"\r\n{")
            wait_until(lambda: any(one.arriving for one in list(server.server.server_state.connections)))
            server.server.handle_exit(15, None)
            wait_until(lambda: server.client.get("/readyz").status_code == 503)
            response = server.predict(task="shape", inputs=[TEXT])
            assert (response.status_code, response.json()["code"]) == (503, "draining")
            assert response.headers["connection"] == "close"
            assert server.client.get("/healthz").status_code == 200
            server.engine.gate.set()
            assert [one.result().status_code for one in inside] == [200] * 3
            stalled.settimeout(GENEROUS)
            with suppress(ConnectionError):  # it is cut, long before the time it has is over
                assert stalled.recv(1000) == b""
            stalled.close()
