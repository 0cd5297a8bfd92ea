"""The Python of the README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

from foreword.data.synthetic import Sizes, write_example_data

README = Path(__file__).parents[1] / "README.md"
SIZES = Sizes(tickets_train=48, tickets_dev=12, diary_train=8, diary_dev=4, notices_train=8, notices_dev=4)


def python_blocks(text: str) -> list[tuple[int, str]]:
    """Line on which each ```python block begins, and its code."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n"), match[1]) for match in found]


def test_python_blocks_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    blocks = python_blocks(README.read_text("utf-8"))
    assert blocks, f"{README} has no ```python block: it should show how to train and predict from Python"
    write_example_data(tmp_path, sizes=SIZES)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "readme"}
    for line, code in blocks:
        exec(compile("\n" * line + code, str(README), "exec"), namespace)  # a failure names the README's own line
    assert "artifact.json" in {path.name for path in tmp_path.rglob("*.json")}, "the README saves an artifact"
    assert capsys.readouterr().out.strip(), "the README shows an answer"


def test_blocks_are_found_with_their_lines():
    text = "# Title\n\n```bash\nls\n```\n\n```python\na = 1\n```\ntext\n```python\nb = 2\nc = 3\n```\n"
    assert python_blocks(text) == [(7, "a = 1\n"), (11, "b = 2\nc = 3\n")]
