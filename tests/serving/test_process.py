"""`foreword serve` as a process: how it starts, how it ends, and what it says if it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from foreword.cli.loading import size_option
from foreword.cli.main import main
from foreword.errors import RecipeError
from serving_at import GENEROUS, wait_until
from tiny import tiny_backbone_folder

ROOT = Path(__file__).parents[2]
START = 400.0
"""Seconds in which a process on a busy machine has surely loaded its libraries."""
TEXT = "Anna Smith visited London."


@pytest.fixture(scope="module")
def backbone_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_backbone_folder("bert", tmp_path_factory.mktemp("backbone") / "bert")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


@contextmanager
def running(*arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """The command, in a process; its log is in ``lines``."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "foreword", "serve", *map(str, arguments)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.lines = []  # type: ignore[attr-defined]
    reader = threading.Thread(target=lambda: process.lines.extend(process.stderr))  # type: ignore[attr-defined]
    reader.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        reader.join()


def ready(port: int) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).status_code == 200
    return False


def ask(port: int, inputs: list[str]) -> httpx.Response:
    body = {"tasks": ["colour", "shape"], "inputs": inputs}
    return httpx.post(f"http://127.0.0.1:{port}/v1/predict", json=body, timeout=GENEROUS, trust_env=False)


def test_told_to_stop_it_answers_what_was_begun_and_goes_though_a_client_stalls(
    registry_root: Path, backbone_folder: Path
):
    port = free_port()
    with running(registry_root, "--backbone", backbone_folder, "--port", port, "--budget", "50MB") as process:
        wait_until(lambda: ready(port) or process.poll() is not None, START)
        assert ask(port, [TEXT]).status_code == 200
        stalled = socket.create_connection(("127.0.0.1", port))
        stalled.sendall(b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{")
        answers: list[Any] = []

        def flood() -> None:
            try:
                while True:
                    answers.append(ask(port, [TEXT] * 30))
                    if answers[-1].status_code == 503:
                        break
            except (httpx.ConnectError, httpx.ReadError):
                pass  # it does not listen any more, or had not yet accepted the connection when it stopped to

        threads = [threading.Thread(target=flood) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(answers) >= 8)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = process.wait(GENEROUS)
        seconds = time.monotonic() - began
        for thread in threads:
            thread.join()
        stalled.close()
        assert code in (0, -signal.SIGTERM)
        assert seconds < 30  # the time to finish in; a stalled client alone would hold it for ever
        told = Counter(one.status_code for one in answers)
        assert set(told) <= {200, 503}
    log = "".join(process.lines)
    assert "Serving 4 tasks" in log
    requests = [json.loads(line) for line in process.lines if '"event": "request"' in line]
    read = Counter(line["status"] for line in requests if line["method"] == "POST")
    assert (read[200], read[503]) == (
        told[200] + 1,
        told[503],
    )  # whatever was read was answered, and the answer arrived
    assert TEXT not in log
    assert str(registry_root) not in log


def test_workers_are_servers_at_ports_of_their_own(registry_root: Path, backbone_folder: Path):
    port = free_port()
    with running(registry_root, "--backbone", backbone_folder, "--port", port, "--workers", 2) as process:
        wait_until(lambda: (ready(port) and ready(port + 1)) or process.poll() is not None, START)
        assert [ask(port + number, [TEXT]).status_code for number in range(2)] == [200, 200]
        process.send_signal(signal.SIGTERM)
        assert process.wait(GENEROUS) == 0


def test_a_port_that_is_taken(registry_root: Path, backbone_folder: Path, capsys: pytest.CaptureFixture[str]):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["serve", str(registry_root), "--backbone", str(backbone_folder), "--port", str(port)])
    assert code == 2
    assert "Choose another --port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--backbone", "x"], "nowhere"),
        (["{registry}", "--backbone", "no/such-model-anywhere"], "no/such-model-anywhere"),
        (["{registry}", "--backbone", "x", "--keys", "nowhere.toml"], "nowhere.toml"),
        (["{registry}", "--backbone", "x", "--import-root", "."], "--admin-key-file"),
        (["{registry}", "--backbone", "x", "--budget", "much"], "'much' is no size"),
        (["{registry}"], "--backbone"),
        (["{registry}", "--backbone", "x", "--port", "70000"], "65535"),
    ],
)
def test_what_is_wrong_is_said(
    registry_root: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    code = main(["serve", *(argument.format(registry=registry_root) for argument in arguments)])
    told = capsys.readouterr().err
    assert code == 2, told
    assert words in told
    assert "Traceback" not in told


def test_without_the_extra_it_says_what_to_install(
    registry_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from foreword.cli import serve

    monkeypatch.setattr(serve, "find_spec", lambda name: None if name == "uvicorn" else True)
    assert main(["serve", str(registry_root), "--backbone", "x"]) == 2
    assert "pip install 'foreword[serve]'" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_the_server():
    program = (
        "import sys\nfrom foreword.cli.main import main\nmain(['serve', '--help'])\n"
        "sys.exit(bool({'torch', 'fastapi', 'uvicorn'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "--backbone" in done.stdout


@pytest.mark.parametrize(("text", "size"), [("200MB", 200_000_000), ("1.5GiB", 3 * 2**29), ("10", 10), ("2 kb", 2000)])
def test_sizes(text: str, size: int):
    assert size_option("--budget", text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1XB", "0", "1e9"])
def test_what_is_no_size(text: str):
    with pytest.raises(RecipeError, match="no size"):
        size_option("--budget", text)
