"""A recipe in a folder: a tiny backbone, and data that a head can learn from it in a few steps."""

from __future__ import annotations

import json
import random
from pathlib import Path

from foreword.recipes import Recipe, load_recipe
from tiny import tiny_backbone_folder

LABELS = {"London": "city", "Germany": "country"}


def write_data(path: Path, count: int, *, seed: int, wrong: bool = False) -> Path:
    """Sentences that end in a place, and what kind of place it is, or the other kind."""
    generator = random.Random(seed)
    names = {"city": "country", "country": "city"}
    lines = []
    for _ in range(count):
        place = generator.choice(list(LABELS))
        label = LABELS[place]
        who = generator.choice(("Anna", "Peter", "my sister"))
        text = f"{who} {generator.choice(('visited', 'has never seen'))} {place}"
        lines.append(json.dumps({"text": text, "label": names[label] if wrong else label}))
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def write_recipe(folder: Path, text: str = "", *, method: str = "ptuning-v2", epochs: int = 3) -> Path:
    """A recipe with its data and backbone in ``folder``; ``text`` goes behind it."""
    if not (folder / "bert").exists():
        tiny_backbone_folder("bert", folder / "bert")
        write_data(folder / "train.jsonl", 40, seed=1)
        write_data(folder / "dev.jsonl", 16, seed=2)
    path = folder / "recipe.toml"
    path.write_text(
        f'[backbone]\nname = "./bert"\n[task]\ntype = "classification"\ndropout = 0\n'
        f'[data]\ntrain = "train.jsonl"\ndev = "dev.jsonl"\n[method]\ntype = "{method}"\n'
        f"[training]\nepochs = {epochs}\nbatch_size = 8\nhead_learning_rate = 2e-2\n{text}"
    )
    return path


def tiny_recipe(folder: Path, text: str = "", **options: object) -> Recipe:
    return load_recipe(write_recipe(folder, text, **options))  # type: ignore[arg-type]
