"""The public surface is small, pinned and explained."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import foreword

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "src" / "foreword").rglob("*.py"))
NAMES = [
    "Adapter",
    "Backbone",
    "BitFit",
    "Classification",
    "Client",
    "Combined",
    "Engine",
    "Ensemble",
    "FineTuning",
    "ForewordError",
    "Generation",
    "HeadOnly",
    "IA3",
    "LNTuning",
    "LayerDeltas",
    "LoRA",
    "Mixing",
    "MixtureOfPrompts",
    "MultiLabel",
    "MultiRC",
    "MultipleChoice",
    "NER",
    "PTuning",
    "PTuningV2",
    "Predictor",
    "PrefixTuning",
    "Probing",
    "PromptTuning",
    "QA",
    "ReCoRD",
    "Recipe",
    "Regression",
    "SRL",
    "SSF",
    "SpanClassification",
    "TextToText",
    "TrainingSettings",
    "WARP",
    "load",
    "load_backbone",
    "load_ensemble",
    "load_recipe",
    "run_recipe",
    "train",
    "train_seeds",
    "train_together",
]


def test_the_names_are_these():
    assert sorted(foreword.__all__) == NAMES
    assert len(set(foreword.__all__)) == len(foreword.__all__)


def test_they_stand_in_the_order_that_ruff_gives_them():
    """Constants, classes, then the rest, each by its letters (rule RUF022)."""
    groups = (str.isupper, lambda name: name[0].isupper() and not name.isupper(), str.islower)
    expected = [name for group in groups for name in sorted(filter(group, foreword.__all__))]
    assert foreword.__all__ == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_name_can_be_imported_and_is_documented(name):
    found = getattr(foreword, name)
    assert found.__name__ == name
    assert found.__module__.startswith("foreword.")
    assert inspect.getdoc(found)
    assert name in dir(foreword)


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "src" / "foreword" / "__init__.py").read_text("utf-8"))
    imported = {a.name: n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    for name in NAMES:
        assert getattr(foreword, name).__name__ == name
        assert imported[name] in (
            "foreword.errors",
            *(home for home, names in foreword._HOMES.items() if name in names),
        )
    assert (ROOT / "src" / "foreword" / "py.typed").is_file()


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="module 'foreword' has no attribute 'Bert'"):
        foreword.Bert  # noqa: B018


def test_importing_it_is_quick():
    """The library is imported by its command line, whose help should not wait for torch."""
    program = "import sys, foreword; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    assert subprocess.run([sys.executable, "-c", program], env=environment, check=False).returncode == 0


def test_the_version_is_that_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert foreword.__version__ == project["version"]


def undocumented(source: str) -> list[str]:
    """Public functions, classes and methods without a docstring, and the module itself."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["the module"]
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
                if not ast.get_docstring(child):
                    found.append(f"{prefix}{child.name} (line {child.lineno})")
                if isinstance(child, ast.ClassDef):
                    waiting.append((f"{prefix}{child.name}.", child))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_everything_public_has_a_docstring(path):
    assert undocumented(path.read_text("utf-8")) == []


def test_a_missing_docstring_is_seen():
    source = (
        '"""m"""\ndef f(): ...\ndef _g(): ...\nclass C:\n    """c"""\n    def m(self): ...\n    def _n(self): ...\n'
    )
    assert undocumented(source) == ["f (line 2)", "C.m (line 6)"]
