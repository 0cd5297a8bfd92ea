"""What an ablation leaves: per axis a figure, a table for people, and the same for programs."""

from __future__ import annotations

import json
from pathlib import Path

from foreword.errors import OutputError
from foreword.studies.ablations.drawing import draw_ablation
from foreword.studies.ablations.results import Ablation, Measured
from foreword.studies.wording import metric_name


def write_ablation(folder: Path, ablation: Ablation) -> None:
    """Write NAME.png, NAME.md and NAME.json.

    Raises:
        OutputError: the folder cannot be written.
    """
    name = ablation.axis.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draw_ablation(folder / f"{name}.png", ablation)
        (folder / f"{name}.json").write_text(json.dumps(ablation.to_json(), indent=1) + "\n", "utf-8")
        (folder / f"{name}.md").write_text(_page(ablation), "utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error


def rows(ablation: Ablation) -> list[list[str]]:
    """A header, and a row per place on the axis: the score and the trained parameters of each series."""
    series = ablation.series
    header = [ablation.axis.label]
    for name in series:
        header += [name or metric_name(ablation.metric), "trained"]
    found = {(one.point.at, one.point.series): one for one in ablation.measured}
    places = list(dict.fromkeys(one.point.at for one in ablation.measured))
    return [header, *([at, *(cell for name in series for cell in _cells(found.get((at, name))))] for at in places)]


def _cells(one: Measured | None) -> tuple[str, str]:
    if one is None:
        return "", ""
    spread = "" if one.spread is None else f" ± {100 * one.spread:.1f}"
    chosen = "" if one.chosen is None else f" (rate {one.chosen})"
    return f"{100 * one.mean:.1f}{spread}{chosen}", f"{one.trained:,}"


def _page(ablation: Ablation) -> str:
    header, *body = rows(ablation)
    lines = [
        f"# {ablation.recipe}: {ablation.axis.name}",
        "",
        f"{metric_name(ablation.metric).capitalize()} in percent on {_SIDES[ablation.side]}; seeds "
        f"{', '.join(map(str, ablation.seeds))}; ± is the standard deviation over seeds. {ablation.axis.note}".strip(),
        "",
        f"![{ablation.axis.name}]({ablation.axis.name}.png)",
        "",
        *(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *body)),
    ]
    if ablation.missing:
        lines += ["", f"{ablation.missing} runs are missing: they failed, or were not run yet."]
    return "\n".join(lines) + "\n"


_SIDES = {
    "test": "test data, on which nothing was selected",
    "holdout": "the data that weights were selected on, so they flatter",
}
