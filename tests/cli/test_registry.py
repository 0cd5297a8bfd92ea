"""`foreword registry`, as it is typed."""

from __future__ import annotations

import json
import shutil

import pytest

from tiny_artifacts import tiny_artifact


@pytest.fixture
def models(place, tmp_path):
    root = tmp_path / "models"
    for arguments in (("sst2", "--alias", "champion"), ("sst2",)):
        result = place.run("registry", "add", root, tiny_artifact(), *arguments)
        assert (result.code, result.err) == (0, "")
    assert result.out.startswith("sst2:2  sha256:")
    return root


def test_list(place, models):
    result = place.run("registry", "list", models)
    assert (result.code, len(result.out.splitlines())) == (0, 2)
    assert result.out.splitlines()[1].split()[:4] == ["sst2:2", "latest", "classification", "ptuning-v2"]
    (row,) = json.loads(place.run("registry", "list", models, "--json").out)
    assert (row["reference"], row["aliases"], row["kind"]) == ("sst2:2", ["latest"], "classification")
    rows = json.loads(place.run("registry", "list", models, "sst2", "--json").out)
    assert [(row["reference"], row["aliases"]) for row in rows] == [("sst2:1", ["champion"]), ("sst2:2", ["latest"])]


def test_show(place, models):
    result = place.run("registry", "show", models, "sst2@champion")
    assert result.code == 0
    for text in ("sst2:1", "champion", "classification", "yes", "Fits"):
        assert text in result.out
    told = json.loads(place.run("registry", "show", models, "sst2:1", "--json").out)
    assert told["manifest"]["task"]["type"] == "classification"
    assert f"sha256:{told['digest']}" in place.run("registry", "add", models, tiny_artifact(), "x").out


def test_aliases_and_removal(place, models):
    assert place.run("registry", "alias", models, "sst2:2", "champion").out.split() == ["sst2@champion", "sst2:2"]
    assert place.run("registry", "remove", models, "sst2:1").out.split() == ["removed", "sst2:1"]
    place.refuse("registry", "remove", models, "sst2:2", says=("'sst2@champion' stands for sst2:2",))
    assert place.run("registry", "alias", models, "sst2", "champion", "--remove").code == 0
    assert place.run("registry", "gc", models).out.split()[:2] == ["deleted", "0"]
    assert place.run("registry", "remove", models, "sst2", "--every").code == 0
    assert place.run("registry", "gc", models, "--grace", "0s").out.split()[:2] == ["deleted", "2"]
    assert place.run("registry", "list", models).out == ""


def test_verify(place, models):
    assert place.run("registry", "verify", models).out.split() == ["sound", "2", "versions", "of", "1", "tasks"]
    (models / "tasks" / "sst2" / "versions" / "2.json").write_bytes(b"")
    result = place.refuse("registry", "verify", models, says=("1 fault",))
    assert "versions/2.json" in result.out
    assert json.loads(place.run("registry", "verify", models, "--json").out)[0]["subject"] == "sst2:2"
    assert "damaged, see verify" in place.run("registry", "list", models).out


def test_push_and_pull(place, models, tmp_path):
    assert place.run("registry", "push", models, "sst2", tmp_path / "sent").code == 0
    assert place.run("inspect", tmp_path / "sent").code == 0
    result = place.run("registry", "pull", tmp_path / "more", tmp_path / "sent", "other")
    assert (result.code, result.out.split()[0]) == (0, "other:1")


class TestRefused:
    def test_references(self, place, models):
        for command in ("show", "remove"):
            place.refuse("registry", command, models, "../x", says=("'../x': no such task or version",))
        place.refuse("registry", "list", models, "none", says=("no such task",))
        place.refuse("registry", "add", models, tiny_artifact(), "Sst2", says=("is no name for a task",))
        place.refuse("registry", "alias", models, "sst2", "7", says=("is no alias",))

    def test_folders(self, place, models, tmp_path):
        place.refuse("registry", "list", tmp_path / "none", says=("is no registry", "foreword registry add"))
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "letter.txt").write_text("dear")
        place.refuse("registry", "add", tmp_path / "full", tiny_artifact(), "x", says=("neither a registry nor empty",))

    def test_artifacts(self, place, models, tmp_path):
        empty = shutil.copytree(tiny_artifact(), tmp_path / "empty")
        (empty / "artifact.json").write_bytes(b"")
        place.refuse("registry", "add", models, empty, "x", says=("artifact.json",))
        place.refuse("registry", "pull", models, tmp_path / "none", "x", says=("no such folder",))

    def test_no_registry_is_made_for_what_cannot_be_published(self, place, tmp_path):
        new = tmp_path / "new"
        for verb in ("add", "pull"):
            place.refuse("registry", verb, new, tmp_path / "none", "x", says=("no such folder",))
        place.refuse("registry", "add", new, tiny_artifact(), "X", says=("is no name for a task",))
        place.refuse("registry", "add", new, tiny_artifact(), "x", "--alias", "7", says=("is no alias",))
        assert not new.exists()

    @pytest.mark.parametrize("grace", ["", "1", "h", "-1h", "1w", "1e9s"])
    def test_times(self, place, models, grace):
        place.refuse("registry", "gc", models, f"--grace={grace}", says=("such as 90s, 30m, 24h or 7d",))
