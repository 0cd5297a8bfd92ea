"""Imports point one way. Every import statement counts, also those inside functions and for type checkers."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "foreword"

LAYERS = (
    {"errors", "injection"},
    {"attachment", "client"},
    {"data", "caching"},
    {"metrics"},  # count what `data.examples` describes
    {"methods", "backbones", "heads"},
    {"tasks"},
    {"model"},
    {"artifacts"},
    {"registry"},
    {"inference", "exchange"},
    {"training"},
    {"api", "recipes"},
    {"studies", "serving"},
    {"scaling"},
    {"cli"},
)
"""Lowest first. A room imports from lower layers and from itself, so those of one layer never meet."""

NEVER = {
    "tasks": {"foreword.backbones", "foreword.methods", "transformers"},
    "methods": {"transformers"},
    "heads": {"transformers"},
    "data": {"torch.nn", "transformers"},
    "metrics": {"torch", "transformers"},
    "data/readers": {"torch", "transformers"},
    "training": {"transformers"},
}
"""What a room has no business with, however low it lies: a task, say, never learns that prompts exist."""

FILES = sorted(PACKAGE.rglob("*.py"))


def level(room: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if room in layer)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str) -> list[tuple[int, str]]:
    """Line and full name of everything imported; ``from a import b`` counts as ``a.b``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found += [(node.lineno, a.value) for a in node.args if isinstance(a, ast.Constant)]
    return found


def room_of(module: str) -> str | None:
    """``foreword.tasks.ner.NER`` -> ``tasks``; None for other packages and for the root, which is the public door."""
    parts = module.split(".")
    rooms = set().union(*LAYERS)
    return parts[1] if parts[0] == "foreword" and len(parts) > 1 and parts[1] in rooms else None


def offences(room: str, source: str) -> list[str]:
    """What in a file of ``room`` points up or sideways."""
    return [
        f"line {line}: {name}"
        for line, name in imports(source)
        if (other := room_of(name)) is not None and other != room and level(other) >= level(room)
    ]


def forbidden(folder: str, source: str) -> list[str]:
    """What in a file of ``folder`` it has no business with."""
    return [
        f"line {line}: {name}"
        for line, name in imports(source)
        for banned in NEVER[folder]
        if f"{name}.".startswith(f"{banned}.")
    ]


def test_every_file_has_a_layer():
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms - {"__init__", "__main__"} == set().union(*LAYERS)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return  # the public names, and the command: above everything
    assert offences(room, path.read_text("utf-8")) == []


@pytest.mark.parametrize("folder", NEVER)
def test_rooms_mind_their_business(folder):
    files = sorted((PACKAGE / folder).rglob("*.py"))
    assert files
    assert {str(path): found for path in files if (found := forbidden(folder, path.read_text("utf-8")))} == {}


def imported_by(modules: list[str], *wanted: str) -> set[str]:
    """Which of the ``wanted`` a fresh Python has imported after ``modules``."""
    program = f"import sys, {', '.join(modules)}; print(*set({wanted!r}) & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_counting_and_reading_go_without_torch():
    """Not even by way of what they import."""
    modules = [
        module_of(path) for room in ("metrics", "data/readers") for path in sorted((PACKAGE / room).rglob("*.py"))
    ]
    assert imported_by(modules, "torch") == set()


def test_answering_goes_without_what_only_scores_need():
    """They take as long to import as torch."""
    modules = ["foreword.artifacts.format", "foreword.inference.predictor", "foreword.cli.predict"]
    assert imported_by(modules, "sklearn", "pandas", "scipy.stats", "matplotlib") == set()


def test_no_cycles_between_folders():
    """Said by the layers already, as long as every one of them is a room; this looks at the graph itself."""
    reaches: dict[str, set[str]] = {}
    for path in FILES:
        room = room_of(module_of(path))
        if room is not None:
            others = {room_of(name) for _, name in imports(path.read_text("utf-8"))}
            reaches.setdefault(room, set()).update(other for other in others if other not in (None, room))
    while free := [room for room, others in reaches.items() if not others & reaches.keys()]:
        for room in free:
            del reaches[room]
    assert reaches == {}, "these import one another in a circle"


def test_no_cycles_between_files():
    modules = {module_of(path): path for path in FILES}
    reaches = {}
    for module, path in modules.items():
        if module == "foreword":
            continue  # its imports run when a name is asked for
        names = [name for _, name in imports(path.read_text("utf-8"))]
        homes = {next((m for m in (n, n.rpartition(".")[0]) if m in modules), None) for n in names}
        reaches[module] = homes - {None, module, "foreword"}
    while free := [module for module, others in reaches.items() if not others & reaches.keys()]:
        for module in free:
            del reaches[module]
    assert reaches == {}, "these import one another in a circle"


class TestTheRulesThemselves:
    """A rule that lets everything through would pass above as well."""

    @pytest.mark.parametrize(
        ("room", "source"),
        [
            ("tasks", "from foreword.model import PromptedModel"),
            ("methods", "import foreword.backbones"),
            ("heads", "def f():\n    from foreword.methods import fold"),
            ("data", "from foreword.metrics.scores import Scores"),
            ("injection", "import foreword.errors"),
            ("inference", "if TYPE_CHECKING:\n    from foreword import training"),
            ("recipes", "from foreword.api import train"),
            ("api", "from foreword.recipes import Recipe"),
            ("model", "importlib.import_module('foreword.cli')"),
        ],
    )
    def test_what_points_up_or_sideways_is_seen(self, room, source):
        assert len(offences(room, source)) == 1

    @pytest.mark.parametrize(
        ("folder", "source"),
        [
            ("tasks", "from foreword import backbones"),
            ("metrics", "import torch.nn.functional as F"),
            ("data/readers", "def f():\n    from torch import Tensor"),
            ("data", "from torch import nn"),
        ],
    )
    def test_what_is_forbidden_is_seen(self, folder, source):
        assert len(forbidden(folder, source)) == 1

    @pytest.mark.parametrize(
        ("room", "source"),
        [
            ("training", "from foreword.inference.forward import predict_encoded"),
            ("cli", "import foreword"),
            ("tasks", "from foreword.tasks.base import Task"),
        ],
    )
    def test_what_points_down_is_fine(self, room, source):
        assert offences(room, source) == []
