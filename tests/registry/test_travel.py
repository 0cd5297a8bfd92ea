"""Versions travel as artifacts: through a folder, and through what speaks as a hub does, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants

import foreword as fw
from foreword.artifacts.format import load_artifact
from foreword.errors import ArtifactError, OutputError, RegistryError, UnknownReference
from foreword.registry import Registry
from tiny import tiny_backbone
from tiny_artifacts import METHODS, answers_of, tiny_artifact


@pytest.fixture
def other(tmp_path) -> Registry:
    return Registry(tmp_path / "other", create=True)


class TestFolders:
    @pytest.mark.parametrize("method", ["ptuning-v2", "fine-tuning", "head-only"])
    def test_there_and_back(self, registry, other, tmp_path, method):
        assert method in METHODS
        artifact = tiny_artifact("classification", method)
        sent = registry.add(artifact, "x")
        assert registry.push("x", tmp_path / "sent") == str(tmp_path / "sent")
        assert answers_of(fw.load(tmp_path / "sent", tiny_backbone())) == answers_of(fw.load(artifact, tiny_backbone()))
        found = other.pull(tmp_path / "sent", "y", aliases=["tried"])
        assert (found.reference, found.digest) == ("y:1", sent.digest)
        assert other.resolve("y@tried") == found
        assert (tmp_path / "sent" / "README.md").is_file()

    def test_numbers_for_training_travel_where_they_were_kept(self, registry, other, tmp_path):
        registry.add(tiny_artifact(), "x", unfolded=True)
        registry.push("x", tmp_path / "sent")
        assert load_artifact(tmp_path / "sent").trains_on
        assert other.open(other.pull(tmp_path / "sent", "y", unfolded=True)).trains_on
        assert not other.open(other.pull(tmp_path / "sent", "y")).trains_on

    def test_nothing_is_replaced(self, registry, tmp_path):
        (tmp_path / "there").mkdir()
        with pytest.raises(OutputError, match="exists already"):
            registry.push("sst2", tmp_path / "there")
        assert not list((tmp_path / "there").iterdir())

    def test_nothing_damaged_leaves(self, registry, tmp_path):
        blob = registry.open(registry.resolve("sst2")).files.where("prompt.safetensors")
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.chmod(0o644)
        blob.write_bytes(content)
        with pytest.raises(ArtifactError, match=str(blob)):
            registry.push("sst2", tmp_path / "sent")
        assert not (tmp_path / "sent").exists()

    def test_nothing_there(self, registry, tmp_path):
        with pytest.raises(UnknownReference):
            registry.push("sst2:9", tmp_path / "sent")
        with pytest.raises(ArtifactError, match="no such folder"):
            registry.pull(tmp_path / "none", "x")


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as uploads and downloads of one small repository ask for."""

    files: dict[str, bytes] = {}  # noqa: RUF012  of the one repository there is
    private: list[bool] = []  # noqa: RUF012
    claimed: dict[str, int] = {}  # noqa: RUF012  sizes that it says instead

    def log_message(self, *_):
        pass

    def answer(self, content: bytes = b"{}", code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self.private.append(json.loads(body).get("private") or json.loads(body).get("visibility") == "private")
            self.answer(json.dumps({"url": f"http://{self.headers['Host']}/a/b"}).encode())
        elif self.path == "/api/validate-yaml":
            self.answer(json.dumps({"errors": [], "warnings": []}).encode())
        elif "/preupload/" in self.path:
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.answer(json.dumps({"files": modes}).encode())
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            address = f"http://{self.headers['Host']}/a/b/commit/1"
            done = {"commitUrl": address, "commitOid": "1" * 40, "success": True}
            self.answer(json.dumps(done).encode())
        else:
            self.answer(code=404)

    def do_GET(self):
        if found := re.match(r"/a/b/resolve/[^/]+/(.+)", self.path):
            if (content := self.files.get(found[1])) is None:
                return self.answer(code=404, X_Error_Code="EntryNotFound")
            digest = hashlib.sha256(content).hexdigest()
            return self.answer(content, X_Repo_Commit="1" * 40, ETag=f'"{digest}"')
        if re.match(r"/api/models/a/b(/revision/.*)?(\?.*)?$", self.path):
            sizes = {name: self.claimed.get(name, len(content)) for name, content in self.files.items()}
            siblings = [{"rfilename": name, "size": size, "blobId": "0" * 40} for name, size in sizes.items()]
            return self.answer(json.dumps({"id": "a/b", "sha": "1" * 40, "siblings": siblings}).encode())
        if self.path.startswith("/api/models/a/b/tree/"):
            tree = [{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in self.files.items()]
            return self.answer(json.dumps(tree).encode())
        return self.answer(code=404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET


@pytest.fixture
def hub(monkeypatch):
    for table in (Hub.files, Hub.private, Hub.claimed):
        table.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub
    server.shutdown()
    server.server_close()


class TestHub:
    def test_there_and_back(self, registry, other, hub):
        assert registry.push("sst2@champion", "hf://a/b").endswith("/a/b/commit/1")
        assert hub.private == [True]
        assert set(hub.files) == {"artifact.json", "prompt.safetensors", "README.md"}
        hub.files["evil.py"] = b"raise SystemExit"
        found = other.pull("hf://a/b@main", "y")
        assert found.digest == registry.resolve("sst2:1").digest
        assert other.verify() == []

    def test_what_is_too_large_is_not_fetched(self, registry, other, hub):
        registry.push("sst2", "hf://a/b")
        hub.claimed["prompt.safetensors"] = 1 << 40
        with pytest.raises(RegistryError, match=r"'prompt\.safetensors' has 1099511627776 bytes"):
            other.pull("hf://a/b", "y")
        assert other.names() == []

    def test_what_was_altered_there_is_refused(self, registry, other, hub):
        registry.push("sst2", "hf://a/b")
        hub.files["prompt.safetensors"] = hub.files["prompt.safetensors"][:-1] + b"x"
        with pytest.raises(ArtifactError, match="it was altered"):
            other.pull("hf://a/b", "y")
        assert other.names() == []

    @pytest.mark.parametrize("address", ["hf://a/none", "hf://", "hf://a/b/c/d", "hf://../x", "hf://a/b@"])
    def test_nothing_there(self, registry, other, hub, address):
        with pytest.raises((RegistryError, ArtifactError)) as caught:
            other.pull(address, "y")
        assert "\n" not in str(caught.value)

    def test_no_network(self, registry, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        for ask in (lambda: registry.push("sst2", "hf://a/b"), lambda: registry.pull("hf://a/b", "y")):
            with pytest.raises(RegistryError, match="hf://a/b: the hub refused, or cannot be reached"):
                ask()


def test_what_was_sent_is_an_artifact_like_any_other(registry, tmp_path):
    registry.push("sst2:1", tmp_path / "sent")
    shutil.copytree(tiny_artifact(), tmp_path / "made")
    names = {p.name for p in (tmp_path / "sent").iterdir()}
    assert names == {p.name for p in (tmp_path / "made").iterdir()} - {"unfolded.safetensors"}
    for name in ("prompt.safetensors", "README.md"):
        assert (tmp_path / "sent" / name).read_bytes() == (tmp_path / "made" / name).read_bytes()
