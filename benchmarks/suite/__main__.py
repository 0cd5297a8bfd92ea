"""scripts/bench [GROUP ...] [--smoke] [--threads N] [--out FOLDER] [--render]

Measure groups, and write FOLDER/GROUP/result.json, table.md and plot.png. Nothing else should run on the machine
meanwhile. With --smoke everything is as small as it gets, and nothing it says counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

from suite.elsewhere import PROGRAMS, run_program
from suite.groups import GROUPS
from suite.machine import about
from suite.options import Options
from suite.report import RESULT, render, render_all

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        "scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "groups", nargs="*", metavar="GROUP", help=f"{', '.join(GROUPS)} (all if none is named); {', '.join(PROGRAMS)}"
    )
    parser.add_argument("--smoke", action="store_true", help="least sizes, one round; results go to a temporary folder")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of a computation on the CPU")
    parser.add_argument("--rounds", type=int, help="timed rounds, where the group's own number is not wanted")
    parser.add_argument("--only", default="", help="contenders with one of these in their names, commas between")
    parser.add_argument("--settings", default="", help="settings, likewise, such as '16x256 bf16'")
    parser.add_argument("--out", type=Path, help="folder of the results; benchmarks/results if left out")
    parser.add_argument("--render", action="store_true", help="measure nothing: make tables and pictures anew")
    given = parser.parse_args(arguments)
    if unknown := set(given.groups) - GROUPS.keys() - PROGRAMS.keys():
        parser.error(f"no group is called {', '.join(sorted(unknown))}; there are {', '.join([*GROUPS, *PROGRAMS])}")
    out = given.out or (Path(tempfile.mkdtemp(prefix="foreword-bench-")) if given.smoke else RESULTS)
    if given.render:
        for path in render_all(out):
            print(path)
        return
    only, settings = (tuple(filter(None, parts.split(","))) for parts in (given.only, given.settings))
    options = Options(given.smoke, given.threads, out, given.rounds, only, settings)
    torch.set_num_threads(options.threads)
    for name in given.groups or GROUPS:
        if name in PROGRAMS:
            run_program(name, options)
        else:
            print(measured(name, options).read_text(), flush=True)


def measured(name: str, options: Options) -> Path:
    """Measure one group and write its files.

    Returns:
        The table.
    """
    group = GROUPS[name]
    result = {
        "group": name,
        "what": str(group.measure.__doc__),
        "smoke": options.smoke,
        "run": about(options.threads),
        "settings": group.measure(options),
    }
    folder = options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n")
    return render(folder, group.targets)


if __name__ == "__main__":
    main()
