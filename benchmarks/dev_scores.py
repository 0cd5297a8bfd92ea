"""Dev scores of every method on real data, each by a packaged recipe.

    FOREWORD_DATA=../shared/data python benchmarks/dev_scores.py [--only conll04,rte] [--table]

All heads read the last layer alone (task.layers = "last"), and words have their best tag each (task.decoding =
"greedy"), also where something else is the default by now.
For each data set and method: a short search over three learning rates, then the whole recipe at the
best of them. Every cell is one run of `foreword train`; finished cells are kept in
benchmarks/results/dev-scores and never run again, interrupted ones are resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
from pathlib import Path
from typing import Any

import torch

from foreword.artifacts.format import load_artifact
from foreword.recipes import load_recipe, run_recipe

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "dev-scores"
RUNS = HERE.parent / "runs" / "dev-scores"
RATES = {
    "ptuning-v2": ("training.learning_rate", (1e-2, 3e-2, 6e-2)),
    "fine-tuning": ("training.learning_rate", (5e-5, 1e-4, 2e-4)),
    "head-only": ("training.head_learning_rate", (1e-3, 5e-3, 2e-2)),
}
HEADS, TAGS = "task.layers=last", "task.decoding=greedy"
# What a search run is cut down to, so that three of them cost less than the run they choose for.
SEARCH: dict[str, dict[str, list[str]]] = {
    "conll04": {
        "ptuning-v2": ["training.epochs=6"],
        "fine-tuning": ["training.epochs=3"],
        "head-only": ["training.epochs=4"],
    },
    "conll2003": {method: ["data.train_limit=4000", "training.epochs=2"] for method in RATES},
    "sst2": {method: ["data.train_limit=6000", "training.epochs=1"] for method in RATES},
    "rte": {
        "ptuning-v2": [],  # its recipe is as short as a search
        "fine-tuning": ["training.epochs=1"],
        "head-only": ["training.epochs=2"],
    },
    "boolq": {
        "ptuning-v2": ["training.epochs=1"],
        "fine-tuning": ["training.epochs=1"],
        "head-only": ["training.epochs=2"],
    },
    "squad": {
        "ptuning-v2": ["training.epochs=1"],
        "fine-tuning": ["data.train_limit=1000", "training.epochs=1"],
        "head-only": ["data.train_limit=1000", "training.epochs=1"],
    },
}


def cell(recipe_name: str, overrides: list[str]) -> dict[str, Any]:
    """One run, from the results folder if it is there already."""
    slug = "+".join([recipe_name, *(o.replace("training.", "").replace("data.", "") for o in overrides)])
    result = RESULTS / f"{slug}.json"
    if result.is_file():
        return json.loads(result.read_text())
    output = RUNS / slug
    fixed = [HEADS, TAGS] if recipe_name.startswith("conll") else [HEADS]
    if not (output / "artifact").is_dir():
        run_recipe(load_recipe(recipe_name, [*overrides, *fixed]), output, resume=(output / "run.json").is_file())
    manifest = load_artifact(output).manifest
    command = shlex.join(
        ["foreword", "train", recipe_name, *(part for o in (*fixed, *overrides) for part in ("--set", o))]
    )
    found = {
        "command": command,
        "main": manifest.metrics.main,
        "value": manifest.metrics.values[manifest.metrics.main],
        "metrics": manifest.metrics.values,
        "trained": manifest.parameters.trained,
        "backbone": manifest.parameters.backbone,
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
        "training": manifest.training.model_dump(mode="json"),
        "data": {side: entry.model_dump(mode="json") for side, entry in manifest.data.items()},
        "versions": manifest.versions,
        "threads": torch.get_num_threads(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    temporary = result.with_suffix(".tmp")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    temporary.replace(result)
    print(f"{found['value']:.4f}  {command}", flush=True)
    return found


def study(data: str, method: str) -> None:
    """Search, then the whole recipe at the best rate."""
    key, rates = RATES[method]
    recipe = f"{data}-{method}"
    scores = {rate: cell(recipe, [*SEARCH[data][method], f"{key}={rate}"])["value"] for rate in rates}
    best = max(scores, key=lambda rate: scores[rate])
    cell(recipe, [f"{key}={best}"])


def table() -> str:
    """The finished recipes as Markdown."""
    lines = [
        "| data | metric | method | dev | of fine-tuning | trained | rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for data in SEARCH:
        full = {method: _whole(data, method) for method in RATES}
        for method, found in full.items():
            if found is None:
                continue
            base = full["fine-tuning"]
            share = f"{found['value'] / base['value']:.3f}" if base else ""
            trained = f"{found['trained']:,} ({100 * found['trained'] / found['backbone']:.2f} %)"
            rate = found["command"].rsplit("=", 1)[-1]
            lines.append(
                f"| {data} | {found['main']} | {method} | {100 * found['value']:.1f} | {share} | {trained} | {rate} |"
            )
    return "\n".join(lines)


def _whole(data: str, method: str) -> dict[str, Any] | None:
    """The best finished cell that was no search."""
    found = [json.loads(path.read_text()) for path in RESULTS.glob(f"{data}-{method}+*.json")]
    searched = set(SEARCH[data][method])
    whole = [one for one in found if not searched or not searched <= set(shlex.split(one["command"]))]
    return max(whole, key=lambda one: one["value"], default=None)


def main() -> None:
    """Run what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", help="data, data:method or data:method:rate, separated by commas; a rate skips the search"
    )
    parser.add_argument("--table", action="store_true", help="print the finished results and stop")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    if options.table:
        print(table())
        return
    torch.set_num_threads(options.threads)
    os.environ.setdefault("FOREWORD_DATA", str(HERE.parent.parent / "shared" / "data"))
    for item in options.only.split(",") if options.only else SEARCH:
        data, method, rate, *overrides = [*item.split(":"), "", ""][: max(3, item.count(":") + 1)]
        if rate:
            cell(f"{data}-{method}", [*overrides, f"{RATES[method][0]}={float(rate)}"])
            continue
        for one in [method] if method else RATES:
            study(data, one)


if __name__ == "__main__":
    main()
