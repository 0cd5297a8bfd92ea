"""Tables and pictures, made from the results alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

from suite.groups import GROUPS
from suite.targets import Settings, Target, Verdict

RESULT, TABLE, PICTURE = "result.json", "table.md", "plot.png"
SHOWN = {"s": ("ms", 1000.0)}
"""Unit of a result -> the unit it is shown in, and how many of it that makes."""
OURS = "Foreword"


def render(folder: Path, targets: tuple[Target, ...]) -> Path:
    """Write table and picture beside a result.

    Returns:
        The table.
    """
    result = json.loads((folder / RESULT).read_text())
    (folder / TABLE).write_text(table(result, targets))
    plot(result, folder / PICTURE)
    return folder / TABLE


def render_all(out: Path) -> Iterator[Path]:
    """Do so for every group that has a result."""
    for name, group in GROUPS.items():
        if (out / name / RESULT).exists():
            yield render(out / name, group.targets)


def table(result: Mapping[str, Any], targets: tuple[Target, ...]) -> str:
    """A result as Markdown: the targets, then every setting."""
    run, machine = result["run"], result["run"]["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items())
    where = f"{machine['processor']}, {machine['threads']} of {machine['cores']} cores, {machine['memory_gib']} GiB"
    lines = [
        f"# {result['group']}",
        "",
        f"{result['what']}",
        "",
        f"{where}{', ' + machine['gpu'] if machine['gpu'] else ''}. {versions}. "
        f"Commit {(run['commit'] or 'unknown')[:9]}{' with changes' if run['changed'] else ''}, {run['date']}.",
        "",
    ]
    if targets:
        lines += ["| target | setting | bound | measured | reached |", "|---|---|---|---|---|"]
        lines += [_line(target.judged(result["settings"])) for target in targets]
        lines.append("")
    for setting, contenders in result["settings"].items():
        columns = list(dict.fromkeys(figure for found in contenders.values() for figure in found.get("figures", {})))
        head = ["contender", "median", "min", "max", "samples", *columns]
        lines += [f"## {setting}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for name, found in contenders.items():
            if "samples" in found:
                cells = [_shown(found[which], found["unit"]) for which in ("median", "min", "max")]
                figures = [f"{found['figures'][column]:.2g}" for column in columns]
                lines.append(f"| {' | '.join([name, *cells, str(len(found['samples'])), *figures])} |")
            else:
                lines.append(f"| {name} | {found['unavailable']}{' |' * (len(head) - 1)}")
        lines.append("")
    return "\n".join(lines)


def _line(verdict: Verdict) -> str:
    target = verdict.target
    what = target.ours if target.theirs is None else f"{target.ours} over {target.theirs}"
    measured = "-" if verdict.measured is None else f"{verdict.measured:.2f}"
    reached = {True: "yes", False: "no", None: "not measured"}[verdict.reached]
    return f"| {what} | {target.setting} | {target.bound} {target.value:g} | {measured} | {reached} |"


def _shown(value: float, unit: str) -> str:
    unit, factor = SHOWN.get(unit, (unit, 1.0))
    return f"{value * factor:,.0f} {unit}" if value * factor >= 10 else f"{value * factor:.2f} {unit}"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Medians as bars, with lines from the least to the most; ours in another colour."""
    settings: Settings = result["settings"]
    mpl.use("Agg")
    bars = max(map(len, settings.values()))
    figure, axes = plt.subplots(
        1, len(settings), figsize=(4.5 * len(settings), 1 + 0.3 * bars), squeeze=False, layout="constrained"
    )
    for axis, (setting, contenders) in zip(axes[0], settings.items(), strict=True):
        ran = {name: found for name, found in reversed(contenders.items()) if "samples" in found}
        units = {found["unit"] for found in ran.values()}
        unit, factor = next((SHOWN.get(unit, (unit, 1.0)) for unit in units), ("", 1.0))
        least, medians, most = ([found[which] * factor for found in ran.values()] for which in ("min", "median", "max"))
        spans = [
            [middle - low for low, middle in zip(least, medians, strict=True)],
            [high - middle for middle, high in zip(medians, most, strict=True)],
        ]
        colours = ["tab:blue" if OURS in name else "tab:gray" for name in ran]
        axis.barh(list(ran), medians, xerr=spans, color=colours, ecolor="black", capsize=2)
        axis.set_title(setting)
        axis.set_xlabel(unit)
    figure.suptitle(result["group"])
    figure.savefig(path, dpi=100)
    plt.close(figure)
