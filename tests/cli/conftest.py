"""A place to run the command line in: a tiny backbone, tiny data, recipes for them, and artifacts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from foreword.cli.main import main
from foreword.data.synthetic import Sizes, write_example_data
from foreword.tasks import TASKS, WritingTask
from tiny import tiny_backbone_folder
from tiny_artifacts import records

ROOT = Path(__file__).parents[2]
DATA = {
    "classification": ("tickets-train.jsonl", "tickets-dev.jsonl"),
    "ner": ("diary-train.conll", "diary-dev.conll"),
    "qa": ("notices-train.json", "notices-dev.json"),
    "regression": ("lengths-train.jsonl", "lengths-dev.jsonl"),
    "multi-label": ("topics-train.jsonl", "topics-dev.jsonl"),
    "multiple-choice": ("replies-train.jsonl", "replies-dev.jsonl"),
    "span-classification": ("words-train.jsonl", "words-dev.jsonl"),
    "multirc": ("answers-train.jsonl", "answers-dev.jsonl"),
    "srl": ("visits-train.props", "visits-dev.props"),
    "record": ("gaps-train.jsonl", "gaps-dev.jsonl"),
    "generation": ("written-train.jsonl", "written-dev.jsonl"),
    "text-to-text": ("tickets-train.jsonl", "tickets-dev.jsonl"),
    "probing": ("facts.jsonl", "facts.jsonl"),
}
FACTS = [{"sub_label": who, "obj_label": where} for who in ("Anna", "Peter") for where in ("London", "Germany")]
SIZES = Sizes(tickets_train=24, tickets_dev=12, diary_train=24, diary_dev=12, notices_train=16, notices_dev=8)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Place:
    """A folder with everything, and ways to run the command line on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backbone = tiny_backbone_folder("bert", folder / "bert")
        self.writer = tiny_backbone_folder("gpt2", folder / "gpt2", language_model=True)
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
        self.language_model = tiny_backbone_folder("bert", folder / "bert-lm", language_model=True)
        write_example_data(folder / "data", sizes=SIZES)
        for name, count in zip(DATA["srl"], (24, 12), strict=True):
            write_propositions(folder / "data" / name, count)
        for side in ("train", "dev"):
            self._retell(side)
            for task in ("span-classification", "multirc", "record"):
                self._write(task, side, records(task))
            self._write("probing", side, FACTS)

    def backbone_of(self, task: str) -> Path:
        if not TASKS[task]().needs_language_model:
            return self.backbone
        return self.writer if issubclass(TASKS[task], WritingTask) else self.language_model

    def data(self, task: str, side: str) -> Path:
        return self.folder / "data" / DATA[task][side == "dev"]

    def _retell(self, side: str) -> None:
        """Data of more tasks, out of the tickets."""
        tickets = [json.loads(line) for line in self.data("classification", side).read_text("utf-8").splitlines()]
        texts = [ticket["text"] for ticket in tickets]
        for task, fields in (
            ("regression", [{"score": len(text) / 10} for text in texts]),
            ("multi-label", [{"labels": [ticket["label"]] * (n % 5 > 0)} for n, ticket in enumerate(tickets)]),
            (
                "multiple-choice",
                [{"choices": texts[n % 2 : n % 2 + 2 + n % 3], "label": n % 2} for n in range(len(texts))],
            ),
        ):
            self._write(task, side, [{"text": text} | more for text, more in zip(texts, fields, strict=True)])
        self._write("generation", side, [{"source": t["text"], "target": ["It is", t["label"]]} for t in tickets])

    def _write(self, task: str, side: str, items: Sequence[Mapping[str, Any]]) -> None:
        self.data(task, side).write_text("".join(json.dumps(item) + "\n" for item in items), "utf-8")

    def recipe(self, task: str, folder: Path | None = None) -> Path:
        path = (folder or self.folder) / f"{task}.toml"
        speaks = str(TASKS[task]().needs_language_model).lower()
        path.write_text(
            f'[backbone]\nname = "{self.backbone_of(task)}"\nlanguage_model = {speaks}\n[task]\ntype = "{task}"\n'
            f'[data]\ntrain = "{self.data(task, "train")}"\ndev = "{self.data(task, "dev")}"\n'
            "[method]\nprompt_length = 4\n[training]\nepochs = 1\n"
        )
        return path

    def run(self, *arguments: Any, stdin: bytes = b"") -> Result:
        """In this process."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        feed = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", feed):
            code = main([str(argument) for argument in arguments])
        return Result(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]

    def refuse(self, *arguments: Any, says: tuple[str, ...], stdin: bytes = b"") -> Result:
        """Run, and see that it ends as what is the user's to mend must end."""
        result = self.run(*arguments, stdin=stdin)
        assert result.code == 2, result
        assert result.err.startswith("error: ")
        assert "Traceback" not in result.err
        for text in says:
            assert text in result.err
        return result

    def start(self, *arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        """In a process of its own."""
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, "-m", "foreword", *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, **{**streams, **options})


def write_propositions(path: Path, count: int) -> None:
    """Columns of small sentences in which somebody visits something, and thinks so."""
    people, things = ("Anna", "nobody", "O'Brien"), ("London", "it", "Germany")
    rows = "{}\tNN\t-\t-\t*\t(ARG0*)\nthinks\tVBZ\tthink\tthink.01\t(V*)\t*\n{}\tNN\t-\t-\t(ARG1*\t(ARG0*)\n"
    rows += "visited\tVBD\tvisit\tvisit.01\t*\t(V*)\n{}\tNN\t-\t-\t*)\t(ARG1*)\n"
    sentences = (rows.format(people[n % 3], people[n % 2], things[n % 3]) for n in range(count // 2))
    path.write_text("\n".join(sentences))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="session")
def trained(place: Place) -> dict[str, tuple[Path, Result]]:
    """Per task: the folder of a finished run, and what was printed. Not to be changed."""
    found = {}
    for task in DATA:
        output = place.folder / "runs" / task
        result = place.run("train", place.recipe(task), "--output", output)
        assert result.code == 0, result
        found[task] = (output, result)
    return found
