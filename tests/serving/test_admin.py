"""Publishing, moving and removing while the server runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from foreword.registry import Registry
from foreword.serving.keys import read_admin_key
from serving_at import Served, served
from tiny_artifacts import tiny_artifact

KEY = "key-of-the-admin-0123456789"
HEADERS = {"authorization": f"Bearer {KEY}"}
TEXT = "Anna Smith visited London."


@pytest.fixture
def kept(registry_root: Path, tmp_path: Path) -> Served:
    shutil.copytree(registry_root, tmp_path / "registry")
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "imports").mkdir()
    shutil.copytree(tiny_artifact("classification"), tmp_path / "imports" / "new-one")
    shutil.copytree(tiny_artifact("classification"), tmp_path / "imports" / "damaged")
    (tmp_path / "imports" / "damaged" / "prompt.safetensors").write_bytes(b"\0" * 100)
    shutil.copytree(tiny_artifact("classification"), tmp_path / "outside")
    (tmp_path / "imports" / "link").symlink_to(tmp_path / "outside")
    registry = Registry(tmp_path / "registry")
    with served(registry, admin=read_admin_key(tmp_path / "key"), imports=tmp_path / "imports") as one:
        one.client.headers.update(HEADERS)
        yield one


def test_a_task_is_published_moved_and_removed(kept: Served):
    made = kept.client.post("/admin/tasks/fresh", json={"folder": "new-one", "aliases": ["champion"]})
    assert made.status_code == 201, made.text
    assert (made.json()["task"], made.json()["version"]) == ("fresh", 1)
    (result,) = kept.predict(task="fresh@champion", inputs=[TEXT]).json()["results"]
    assert result["digest"] == made.json()["digest"]
    again = kept.client.post("/admin/tasks/fresh", json={"folder": "new-one"})
    assert again.json()["version"] == 2
    moved = kept.client.put("/admin/tasks/fresh/aliases/champion", json={"version": 2})
    assert (moved.status_code, moved.json()["version"]) == (200, 2)
    assert kept.predict(task="fresh@champion", inputs=[TEXT]).json()["results"][0]["version"] == 2
    assert kept.client.delete("/admin/tasks/fresh/aliases/champion").status_code == 204
    assert kept.predict(task="fresh@champion", inputs=[TEXT]).status_code == 404
    assert kept.client.delete("/admin/tasks/fresh", params={"version": 1}).status_code == 204
    assert kept.predict(task="fresh:1", inputs=[TEXT]).status_code == 404
    assert kept.predict(task="fresh", inputs=[TEXT]).status_code == 200
    assert kept.client.delete("/admin/tasks/fresh").status_code == 204
    assert kept.predict(task="fresh", inputs=[TEXT]).status_code == 404


@pytest.mark.parametrize("folder", ["../outside", "/etc", "link", "..", ".", "nothing", "new-one/../damaged", "a\x00b"])
def test_only_folders_of_the_import_folder_are_published(kept: Served, folder: str):
    response = kept.client.post("/admin/tasks/fresh", json={"folder": folder})
    assert response.status_code in (404, 422)
    assert kept.predict(task="fresh", inputs=[TEXT]).status_code == 404


def test_what_is_wrong_is_refused_and_nothing_of_it_told(kept: Served):
    root = str(kept.engine.source.root.parent)
    for response, status in (
        (kept.client.post("/admin/tasks/fresh", json={"folder": "damaged"}), 422),
        (kept.client.post("/admin/tasks/NOT-A-NAME", json={"folder": "new-one"}), 409),
        (kept.client.put("/admin/tasks/colour/aliases/x", json={"version": 9}), 404),
        (kept.client.put("/admin/tasks/nothing/aliases/x", json={"version": 1}), 404),
        (kept.client.put("/admin/tasks/colour/aliases/NOT", json={"version": 1}), 409),
        (kept.client.put("/admin/tasks/colour/aliases/x", json={"version": "1"}), 422),
        (kept.client.delete("/admin/tasks/colour/aliases/latest"), 409),
        (kept.client.delete("/admin/tasks/nothing"), 404),
    ):
        assert response.status_code == status, response.text
        assert root not in response.text


def test_a_damaged_task_is_told_to_those_who_ask_it_and_others_are_served(registry_root: Path, tmp_path: Path):
    shutil.copytree(registry_root, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    version = registry.resolve("shape")
    (name,) = (entry.sha256 for file, entry in version.manifest.files.items() if file == "prompt.safetensors")
    (blob,) = (tmp_path / "registry").rglob(f"{name}*")
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(bytes(content))
    with served(registry) as server:
        response = server.predict(task="shape", inputs=[TEXT])
        assert (response.status_code, response.json()["code"]) == (503, "task.damaged")
        assert str(tmp_path) not in response.text
        both = server.predict(tasks=["colour", "shape"], inputs=[TEXT])
        assert both.status_code == 200
        assert [("answer" in result) for result in both.json()["results"]] == [True, False]
