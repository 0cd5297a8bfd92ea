"""Which recipe makes which figure of a paper. `python tests/paper_rows.py` writes the tables of docs/recipes.md.

A recipe's name says what it is: the backbone's folder, the data, the method. So the tables are found, not kept;
`recipes/test_papers.py` sees that every recipe named in them is there, and that the page has them as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from foreword.studies.comparison.published import Published, published

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
START = "<!-- written by tests/paper_rows.py -->\n"

FOLDERS = {
    "BERT-large": "bert-large",
    "RoBERTa-large": "roberta-large",
    "DeBERTa-xlarge": "deberta-xlarge",
    "T5 1.1 base": "t5-base-lm-adapt",
    "GPT-2 medium": "gpt2-medium",
    "BART-large": "bart-large",
}
"""A paper's word for a backbone -> the folder of its recipes."""
WITHOUT_WEIGHTS = {"GLM-xlarge", "GLM-xxlarge"}
"""Backbones of the tables that no hub has in a form that transformers reads."""
METHODS = {
    "ptuning-v2 multi-task": "after-multi-task",
    "ptuning-v2 verbalizer": "ptuning-v2-verbalizer",
    "prefix-tuning short": "prefix-tuning-short",
}
"""A method in published.toml -> the end of a recipe's name, where it is another."""


def rows() -> list[Published]:
    """The published figures that there are recipes for."""
    return [row for row in published() if row.backbone not in WITHOUT_WEIGHTS]


def beginning(row: Published) -> str:
    """What the names of a row's recipes begin with; both tests of conll2005 are of one run."""
    return f"{FOLDERS[row.backbone]}/{row.data.partition('-')[0]}-"


def recipe_of(row: Published, method: str) -> str:
    """The recipe that makes a figure."""
    return f"{beginning(row)}{METHODS.get(method, method)}"


def tables() -> str:
    """One table per table of a paper."""
    return "\n".join("\n".join(_table(source, [*group])) for source, group in groupby(rows(), lambda row: row.source))


def _table(source: str, group: list[Published]) -> Iterator[str]:
    methods = [*group[0].scores]
    yield f"## {source}\n"
    yield "| recipe | metric | " + " | ".join(f"`{METHODS.get(method, method)}`" for method in methods) + " |"
    yield "|---" * (2 + len(methods)) + "|"
    for row in group:
        part = row.data.partition("-")[2]
        metric = f"{row.metric}, {part} test" if part else row.metric
        yield f"| `{beginning(row)}` | {metric} | " + " | ".join(f"{100 * row.scores[m]:.4g}" for m in methods) + " |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(PAGE.read_text("utf-8").partition(START)[0] + START + "\n" + tables(), "utf-8")
