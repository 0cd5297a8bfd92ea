"""Makes `benchmarks/suite` importable, and nothing else of `benchmarks`, whose files have names of rooms here."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "suite"

if "suite" not in sys.modules:
    spec = spec_from_file_location("suite", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)])
    sys.modules["suite"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["suite"])
