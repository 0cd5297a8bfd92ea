"""Who and what is turned away: keys, sizes, hostile names and bodies. No text of theirs comes back, or into the log."""

from __future__ import annotations

import gzip
import json
import logging
import os
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreword.errors import RecipeError
from foreword.registry import Registry
from foreword.serving.keys import Caller, Keys, read_admin_key, read_keys
from foreword.serving.logs import Lines
from serving_at import Served, served

TEXT = "Anna Smith visited London."
CODES = {
    "request.malformed",
    "request.too-large",
    "task.unknown",
    "input.invalid",
    "input.too-long",
    "route.unknown",
    "method.unknown",
}


@pytest.fixture(scope="module")
def strict(registry_root: Path) -> Served:
    """A server with small limits."""
    with served(Registry(registry_root), max_body=20_000, max_inputs=8, max_text=2_000, max_tokens=200) as one:
        yield one


class TestBodies:
    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"", 422),
            (b"{", 400),
            (b"not json", 400),
            (b"[" * 9_000, 400),
            (b'{"task": ' * 1_800 + b"1" + b"}" * 1_800, 400),
            (b'{"task": "colour", "inputs": [NaN]}', 400),
            (b'{"task": "colour", "inputs": ["\\ud800"]}', 400),
            (b'\xff\xfe{"task": 1}', 400),
            (gzip.compress(b" " * 10_000_000), 400),
            (json.dumps({"task": "colour", "inputs": []}).encode(), 422),
            (json.dumps({"task": "colour", "inputs": [""] * 2_000}).encode(), 422),
            (json.dumps({"task": "colour", "inputs": ["x"] * 9}).encode(), 413),
            (json.dumps({"task": "colour", "inputs": ["x" * 3_000]}).encode(), 422),
            (json.dumps({"task": "colour", "inputs": [{f"f{n}": 1 for n in range(100)}]}).encode(), 422),
            (b'{"task": "colour", "inputs": [{"text": ' + b"9" * 10_000 + b"}]}", 422),
            (json.dumps({"task": "colour", "inputs": ["x"], "options": {"candidates": 10**30}}).encode(), 422),
            (json.dumps({"task": "colour", "inputs": ["x"], "options": {"timeout_ms": -1}}).encode(), 422),
            (json.dumps({"task": "colour", "inputs": ["x"], "options": {"secret": 1}}).encode(), 422),
            (json.dumps({"task": "colour", "tasks": ["ner"], "inputs": ["x"]}).encode(), 422),
            (json.dumps({"inputs": ["x"]}).encode(), 422),
            (json.dumps({"ensemble": {"members": ["shape"] * 40}, "inputs": ["x"]}).encode(), 422),
        ],
    )
    def test_odd_ones_are_refused(self, strict: Served, body: bytes, status: int):
        response = strict.client.post("/v1/predict", content=body, headers={"content-type": "application/json"})
        assert response.status_code in (status, 400 if status == 422 else status), response.text
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] in CODES
        assert response.json()["request_id"] == response.headers["x-request-id"]

    def test_large_ones_are_refused_with_and_without_their_length(self, strict: Served):
        body = json.dumps({"task": "colour", "inputs": ["x" * 30_000]}).encode()
        headers = {"content-type": "application/json"}
        told = strict.client.post("/v1/predict", content=body, headers=headers)
        chunked = strict.client.post("/v1/predict", content=iter([body[:10_000], body[10_000:]]), headers=headers)
        for response in (told, chunked):
            assert (response.status_code, response.json()["code"]) == (413, "request.too-large")

    def test_headers_are_bounded(self, strict: Served):
        assert strict.client.get("/healthz", headers={"x-long": "x" * 200_000}).status_code == 400

    def test_a_text_of_too_many_tokens(self, strict: Served):
        question = {"question": "Where?", "context": "London " * 280}
        response = strict.predict(task="qa", inputs=[question])
        assert (response.status_code, response.json()["code"]) == (422, "input.too-long")

    def test_an_unknown_field_is_not_told_back(self, strict: Served):
        response = strict.predict(task="colour", inputs=["x"], canary_7f3a=1)
        assert response.status_code == 422
        assert "canary" not in response.text


KNOWN = {"colour", "shape", "ner", "qa"}
HOSTILE = st.one_of(
    st.sampled_from(
        [
            "../colour",
            "/etc/passwd",
            "%2e%2e%2fcolour",
            "%252e%252e",
            "colour\\..\\x",
            "colour\x00",
            "COLOUR",
            "col\u043eur",
            "\u202ecolour",
            "con",
            "colour.",
            "colour ",
            " colour",
            "colour:0",
            "colour:-1",
            "colour:1e3",
            "colour:" + "9" * 100,
            "colour@",
            "colour@../latest",
            "colour@sha256:",
            "colour@sha256:zz",
            "colour:1:2",
            "a" * 4096,
            "colour\nX-Injected: 1",
            "",
            ".",
            "..",
            "aliases.json",
        ]
    ),
    st.text(max_size=80),
    st.from_regex(r"(\.\./|%2e|/|\\|[a-z0-9._-]|:|@){1,30}", fullmatch=True),
)


@given(HOSTILE)
def test_hostile_names_are_unknown_and_open_nothing(server: Served, name: str):
    opened.clear()
    response = server.predict(task=name, inputs=[TEXT])
    if response.status_code != 200:
        assert response.status_code in (404, 422), response.text
        assert response.json()["code"] in ("task.unknown", "request.malformed")
    # The registry opens below open folders, a name at a time; what a stranger sent is none of them.
    assert [path for path in opened if ".." in path or "passwd" in path or (path == name and name not in KNOWN)] == []


@given(HOSTILE)
def test_hostile_names_in_addresses(server: Served, name: str):
    from urllib.parse import quote

    response = server.client.get(f"/v1/tasks/{quote(name, safe='')}")
    assert response.status_code in (200, 307, 404, 400), response.text


opened: list[str] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes):
        opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_hear)


def test_the_ear_for_opened_files_hears(tmp_path: Path):
    (tmp_path / "heard").write_text("x")
    opened.clear()
    (tmp_path / "heard").read_text()
    assert str(tmp_path / "heard") in opened


KEYS = {"all": "key-of-all-0123456789", "colours": "key-of-colours-0123456789"}
ADMIN = "key-of-the-admin-0123456789"


def keys_file(folder: Path) -> Path:
    lines = [f'[{name}]\nsha256 = "{sha256(key.encode()).hexdigest()}"' for name, key in KEYS.items()]
    (folder / "keys.toml").write_text("\n".join(lines) + '\ntasks = ["colour"]\n')
    return folder / "keys.toml"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def closed(registry_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "admin").write_text(ADMIN + "\n")
    with served(
        Registry(registry_root), keys=read_keys(keys_file(folder)), admin=read_admin_key(folder / "admin")
    ) as one:
        yield one


class TestKeys:
    def test_without_a_key_only_the_open_addresses_answer(self, closed: Served):
        for path in ("/", "/healthz", "/readyz", "/openapi.json", "/docs"):
            assert closed.client.get(path).status_code == 200
        for path in ("/v1/tasks", "/v1/tasks/colour", "/metrics", "/nowhere", "/v1/../metrics"):
            response = closed.client.get(path)
            assert (response.status_code, response.json()["code"]) == (401, "auth.missing")
            assert response.headers["www-authenticate"] == "Bearer"
        assert closed.predict(task="colour", inputs=[TEXT]).status_code == 401

    @pytest.mark.parametrize("sent", ["Bearer wrong", "Bearer", "Basic eDp5", KEYS["all"], f"Bearer {ADMIN}"])
    def test_a_wrong_key_opens_nothing(self, closed: Served, sent: str):
        response = closed.client.get("/v1/tasks", headers={"authorization": sent})
        assert (response.status_code, response.json()["code"]) == (403, "auth.forbidden")

    def test_a_key_asks_the_tasks_of_its_list_and_knows_of_no_others(self, closed: Served):
        def ask(key: str, **body: Any) -> Any:
            return closed.client.post("/v1/predict", json={"inputs": [TEXT], **body}, headers=bearer(KEYS[key]))

        assert ask("all", task="shape").status_code == 200
        assert ask("colours", task="colour:1").status_code == 200
        bodies = []
        for reference in ("shape", "shape:1", "shape@latest", "nothing", "nothing:1"):
            response = ask("colours", task=reference)
            assert response.status_code == 404
            bodies.append({k: v for k, v in response.json().items() if k != "request_id"})
        assert all(body == bodies[0] for body in bodies)
        assert ask("colours", ensemble={"members": ["colour:1", "shape:1"]}).status_code == 404
        listed = closed.client.get("/v1/tasks", headers=bearer(KEYS["colours"])).json()["tasks"]
        assert [task["task"] for task in listed] == ["colour"]
        shape = closed.client.get("/v1/tasks/shape", headers=bearer(KEYS["colours"]))
        nothing = closed.client.get("/v1/tasks/nothing", headers=bearer(KEYS["colours"]))
        assert shape.status_code == nothing.status_code == 404
        assert closed.client.get("/metrics", headers=bearer(KEYS["colours"])).status_code == 403
        assert closed.client.get("/metrics", headers=bearer(KEYS["all"])).status_code == 200

    def test_the_admin_routes_want_the_admin_key(self, closed: Served):
        for headers, status in (({}, 401), (bearer(KEYS["all"]), 403), (bearer("x" * 30), 403)):
            response = closed.client.put("/admin/tasks/colour/aliases/x", json={"version": 1}, headers=headers)
            assert response.status_code == status

    def test_every_hash_is_compared(self, monkeypatch: pytest.MonkeyPatch):
        import hmac

        compared = []
        right = hmac.compare_digest
        monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(b) or right(a, b))
        callers = {sha256(bytes([n])).digest(): Caller(str(n)) for n in range(65, 75)}
        assert Keys(callers).caller("Bearer A") == Caller("65")
        assert len(compared) == len(callers)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "holds no key"),
            ("[a", "not TOML"),
            ('[a]\nsha256 = "12"', "a.sha256"),
            (f'[a]\nsha256 = "{"0" * 64}"\nkey = "plain"', "a.key"),
            (f'[a]\nsha256 = "{"0" * 64}"\n[b]\nsha256 = "{"0" * 64}"', "same key as a"),
            ("a = 1", "a: "),
        ],
    )
    def test_a_file_of_keys_that_is_wrong_says_where(self, tmp_path: Path, text: str, words: str):
        (tmp_path / "keys.toml").write_text(text)
        with pytest.raises(RecipeError, match=words):
            read_keys(tmp_path / "keys.toml")

    def test_an_admin_key_that_is_soon_guessed_is_refused(self, tmp_path: Path):
        (tmp_path / "key").write_text("short")
        with pytest.raises(RecipeError, match="16 characters"):
            read_admin_key(tmp_path / "key")


def test_admin_routes_are_not_there_by_default(server: Served):
    response = server.client.put("/admin/tasks/colour/aliases/x", json={"version": 1})
    assert (response.status_code, response.json()["code"]) == (404, "route.unknown")
    assert not any(path.startswith("/admin") for path in server.client.get("/openapi.json").json()["paths"])


class TestNothingLeaks:
    CANARY = "canary-5d1c9e"

    def test_neither_errors_nor_the_log_hold_what_was_sent_or_a_path(
        self, server: Served, registry_root: Path, monkeypatch: pytest.MonkeyPatch
    ):
        lines: list[str] = []
        handler = logging.Handler()
        handler.setFormatter(Lines())
        handler.emit = lambda record: lines.append(handler.format(record))
        loggers = [logging.getLogger(name) for name in ("foreword", "uvicorn")]
        for logger in loggers:
            logger.addHandler(handler)
            logger.setLevel(logging.DEBUG)
        canary = self.CANARY
        bodies = [
            {"task": canary, "inputs": [canary]},
            {"task": "colour", "inputs": [{"text": [canary]}]},
            {"task": "colour", "inputs": [{canary: canary}]},
            {"task": "qa", "inputs": [{"question": canary, "context": {canary: canary}}]},
            {"task": "colour", "inputs": [canary], canary: canary},
            {"task": "colour", "inputs": canary},
            {"task": [canary], "inputs": [canary]},
            {"task": "colour", "inputs": [{"text": canary, "task": {canary: 1}}]},
            {"task": "colour", "inputs": [canary], "options": {"truncate": canary}},
            {"task": "colour", "inputs": [canary], "options": {"candidates": 3}},
        ]

        def broken(*given: Any, **named: Any) -> Any:
            raise ValueError(canary)

        try:
            responses = [server.predict(**body) for body in bodies]
            responses.append(server.client.post("/v1/predict", content=canary.encode()))
            responses.append(server.client.get(f"/v1/tasks/{canary}?{canary}=1"))
            responses.append(server.client.get(f"/{canary}", headers={"x-request-id": f"{canary} and more"}))
            responses.append(server.client.request(canary.upper().replace("-", ""), "/v1/tasks"))
            with monkeypatch.context() as patch:
                patch.setattr(server.engine, "encode", broken)
                responses.append(server.predict(task="colour", inputs=[canary]))
                assert responses[-1].status_code == 500
            with monkeypatch.context() as patch:
                patch.setattr(server.service.catalogue, "tasks", broken)
                responses.append(server.client.get("/v1/tasks"))
                assert responses[-1].status_code == 500
                assert responses[-1].json()["code"] == "internal"
        finally:
            for logger in loggers:
                logger.removeHandler(handler)
                logger.setLevel(logging.NOTSET)
        for response in responses:
            assert response.status_code >= 400
            assert canary not in response.text
            assert str(registry_root) not in response.text
            assert "/" not in response.json()["detail"].replace("/v1/", "").replace("/docs", "")
        log = "\n".join(lines)
        assert len([line for line in lines if json.loads(line)["event"] == "request"]) == len(responses)
        assert canary not in log.lower()
        assert str(registry_root.parent) not in log
        assert "ValueError" in log
        assert all(json.loads(line)["request_id"] for line in lines if json.loads(line)["event"] == "request")
