"""How much of a training batch is padding, and how much rows are mixed, on the real data; no clock is looked at.

    python benchmarks/padding.py [--rows 500] [RECIPE ...]

Positions over tokens of one epoch; and how many of the pairs of rows that share a batch in it do so in the next, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations, islice

import foreword as fw
from foreword.data.batching import padding_ratio
from foreword.inference.encoding import encode_examples
from foreword.recipes import load_recipe
from foreword.training.lanes import Lane
from foreword.training.settings import TrainingSettings

RECIPES = ("sst2", "conll2003", "squad")
SETTINGS = (*({"batch_size": rows} for rows in (16, 32, 64)), *({"batch_tokens": most} for most in (1024, 4096)))


def lane_of(name: str, rows: int | None, backbone: fw.Backbone) -> Lane:
    """The training data of a recipe; a lane without a model, for batches are made of lengths."""
    recipe = load_recipe(name)
    examples = recipe.task.read(islice(recipe.data.source("train").records(), rows), labelled=True)
    task = recipe.task.with_labels_from(examples)
    encoded = encode_examples(task, examples, backbone, recipe.training.max_length)
    return Lane(name, None, task, encoded, encoded)  # type: ignore[arg-type]


def pairs(batches: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """Rows that share a batch."""
    return {pair for batch in batches for pair in combinations(sorted(batch), 2)}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--rows", type=int, default=20000, help="of each data set, the first so many")
    given = parser.parse_args()
    backbone = fw.load_backbone("sentence-transformers/all-MiniLM-L6-v2")
    print("| data | rows | batches | rows per batch | positions over tokens | pairs that meet again |")
    print("|---|---|---|---|---|---|")
    for name in given.recipes:
        lane = lane_of(name, given.rows, backbone)
        for setting in SETTINGS:
            first, second = (lane.batches(TrainingSettings(**setting), epoch) for epoch in (0, 1))
            sizes, padding = [len(batch) for batch in first], padding_ratio(lane.train.lengths, first)
            again = len(pairs(first) & pairs(second)) / max(len(pairs(first)), 1)
            ((key, value),) = setting.items()
            print(
                f"| {name} | {lane.units:,} | `{key} = {value}` | {min(sizes)} to {max(sizes)} "
                f"| {1 / (1 - padding):.3f} | {again:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
