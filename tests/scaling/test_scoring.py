"""`foreword predict --ray`: the same lines in the same order as without, or none and the place of what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'foreword[ray]'")

from foreword.cli import scaling as checks
from foreword.cli.main import main
from foreword.data.readers import parse_json_lines
from foreword.data.readers.base import read_lines
from foreword.scaling.scoring import _stretches, _Worker
from serving_at import canary
from tiny import tiny_backbone_folder

LINES = 600
PATIENT = 480.0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact, its backbone, and a file with lines of many lengths, some of them blank."""
    folder = tmp_path_factory.mktemp("scoring")
    canary("colour", 1, folder / "artifact")
    tiny_backbone_folder("bert", folder / "bert")
    lines = []
    for number in range(LINES):
        item = {"text": "Anna went to London " * (1 + number % 7)} | ({"id": f"own-{number}"} if number % 5 else {})
        lines.append(json.dumps(item) + "\n" + "\n" * (number % 50 == 0))
    (folder / "many.jsonl").write_bytes(b"\xef\xbb\xbf" + "".join(lines).encode())
    return folder


def over_ray(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    environment |= {"RAY_AUTH_TOKEN": "0123456789" * 4}
    command = [sys.executable, "-m", "foreword", "predict", "artifact", "--backbone", "bert", "--ray", *arguments]
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENT, check=False
    )


def test_answers_are_those_of_one_process(place, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["predict", "artifact", "--backbone", "bert", "--input", "many.jsonl", "--output", "plain"]) == 0
    done = over_ray(place, "--input", "many.jsonl", "--output", "ray")
    assert done.returncode == 0, done.stderr
    assert (place / "ray").read_bytes() == (place / "plain").read_bytes()
    assert len((place / "ray").read_text().splitlines()) == LINES


def test_the_first_thing_that_is_wrong_is_told_and_nothing_is_written(place):
    lines = (place / "many.jsonl").read_bytes().splitlines(keepends=True)
    lines[559], lines[399] = b"{no json\n", b'{"txt": "no text"}\n'
    (place / "wrong.jsonl").write_bytes(b"".join(lines))
    (place / "kept").write_text("as it was")
    done = over_ray(place, "--input", "wrong.jsonl", "--output", "kept")
    assert done.returncode == 2
    assert "error: wrong.jsonl:400: field 'text': missing" in done.stderr
    assert (place / "kept").read_text() == "as it was"
    assert not list(place.glob(".*tmp"))


class TestStretches:
    def test_together_they_are_the_file(self, place):
        file = str(place / "many.jsonl")
        content, stretches = Path(file).read_bytes(), list(_stretches(file))
        assert b"".join(content[one["start"] : one["start"] + one["size"]] for one in stretches) == content
        records = list(parse_json_lines(read_lines(file), file))
        assert [one["record"] for one in stretches] == [0, 256, 512]
        for one in stretches:
            part = content[one["start"] : one["start"] + one["size"]].decode("utf-8-sig")
            found = list(parse_json_lines(part.split("\n"), file, first=one["line"]))
            assert found == records[one["record"] : one["record"] + 256]

    def test_of_nothing_there_are_none(self, tmp_path):
        (tmp_path / "empty").write_text("\n \n")
        assert list(_stretches(str(tmp_path / "empty"))) == []

    def test_a_carriage_return_ends_no_line(self, tmp_path):
        odd = tmp_path / "odd"
        odd.write_bytes(b'{"text":\r "a"}\r\n' * 300)
        worker = _Worker("odd", odd, Mock(), 0)
        lines = [list(worker._lines(one["start"], one["size"], one["line"])) for one in _stretches(str(odd))]
        assert [len(some) for some in lines] == [256, 44]
        assert [line for some in lines for line in some] == list(read_lines(str(odd)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "a", "--workers", "2"], "--workers needs --ray"),
        (["predict", "a", "--ray"], "--input - is not for --ray"),
        (["predict", "a", "--ray", "--input", "x.jsonl.gz"], "unpack it"),
        (["predict", "a", "--ray", "--input", "nothing.jsonl"], "nothing.jsonl: no such file"),
        (["serve", "r", "--backbone", "b", "--replicas", "2"], "--replicas needs --ray"),
        (["serve", "r", "--backbone", "b", "--autoscale", "1:2"], "--autoscale needs --ray"),
        (["serve", "r", "--backbone", "b", "--ray", "--workers", "2"], "--workers is for one machine"),
        (["serve", "r", "--backbone", "b", "--ray", "--replicas", "2", "--autoscale", "1:2"], "exclude each other"),
        (["serve", "r", "--backbone", "b", "--ray", "--autoscale", "4:1"], "'4:1' is no range"),
        (["serve", "r", "--backbone", "b", "--ray", "--port", "0"], "--port 0 is not for --ray"),
        (["serve", "r", "--backbone", "b", "--ray"], "r: "),
    ],
)
def test_options_that_do_not_go_together(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["predict", "a", "--input", "x"], ["serve", "r", "--backbone", "b"]])
def test_without_ray_it_says_what_to_install(command, monkeypatch, capsys):
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert main([*command, "--ray"]) == 2
    assert "pip install 'foreword[ray]'" in capsys.readouterr().err
