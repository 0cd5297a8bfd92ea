"""What a registry stands, in numbers: killed publishers, lost power, crowds, damaged files, hostile names.

    python benchmarks/registry_faults.py [--only killed,damaged] [--smoke] [--out FOLDER]

The long form of tests/registry, by the same seeded generators. A fault that never happened counts as a failure.
Results are written to benchmarks/results/registry/faults.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from foreword.registry import Registry  # noqa: E402
from registry_faults import Disk, contents, damaged, killed_after, killed_at, refusals, run_all  # noqa: E402
from tiny_artifacts import tiny_artifact  # noqa: E402

RESULTS = HERE / "results" / "registry" / "faults.json"
SEED = 20_261_126
METHODS = ("ptuning-v2", "prompt-tuning", "fine-tuning", "head-only")


def fresh(folder: Path) -> Path:
    """A registry with two versions of one task and one of another."""
    root = folder / "models"
    registry = Registry(root, create=True)
    for method, name, aliases in (
        ("ptuning-v2", "sst2", ["champion"]),
        ("prompt-tuning", "sst2", []),
        ("head-only", "other", []),
    ):
        registry.add(tiny_artifact("classification", method), name, aliases=aliases)
    return root


def publish(root: Path, method: str = "fine-tuning", name: str = "sst2") -> None:
    Registry(root).add(tiny_artifact("classification", method), name, aliases=["newest"])


def sound(root: Path, before: dict[str, str]) -> bool:
    """Everything verified and opened, and what was there before still there."""
    now = contents(root)
    kept = {reference: digest for reference, digest in before.items() if "@" not in reference}
    return kept.items() <= now.items() and now["sst2@champion"] == "sst2:1"


def killed(folder: Path) -> dict[str, Any]:
    """`kill -9` while something is published: at every step, and 100 times at a random one; then publish again."""
    root, chance = fresh(folder), random.Random(SEED)
    before = contents(root)
    counts: Counter[str] = Counter()
    steps = 1
    while _killed_once(folder, before, counts, partial(killed_at, steps)):
        steps += 1
    for _ in range(100):
        _killed_once(folder, before, counts, partial(killed_after, chance.uniform(0.0, 0.15)), times=100)
    return {"steps": steps - 1, **counts}


def _killed_once(
    folder: Path, before: dict[str, str], counts: Counter[str], kill: Callable[..., bool], *, times: int = 1
) -> bool:
    copy = Path(shutil.copytree(folder / "models", folder / "copy"))
    fired = kill(lambda: [publish(copy) for _ in range(times)])
    counts["killed"] += fired
    counts["broken"] += not sound(copy, before)
    counts["version was there"] += len(Registry(copy).numbers("sst2")) > 2
    publish(copy)
    counts["broken after publishing again"] += not sound(copy, before)
    shutil.rmtree(copy)
    return fired


def power(folder: Path) -> dict[str, Any]:
    """Loss of power before every change of the disk, with all that was not synced lost, or only what files hold."""
    root = fresh(folder)
    before = contents(root)
    counts: Counter[str] = Counter()
    for view in ("certain", "likely"):
        disk, states = Disk(root), []

        def keep(disk: Disk = disk, states: list[Path] = states, view: str = view) -> None:
            states.append(folder / f"{view}-{len(states)}")
            getattr(disk, view)(states[-1])

        with disk.watched(keep):
            publish(root)
        counts["replayed"] += len(states)
        counts["broken"] += sum(not sound(state, before) for state in states)
    return dict(counts)


def syscalls(folder: Path) -> dict[str, Any]:
    """The order of fsync and rename, as the kernel sees it."""
    if shutil.which("strace") is None:
        return {"skipped": "strace is not installed"}
    root, log = fresh(folder), folder / "strace"
    program = (
        "import sys; from foreword.registry import Registry; from pathlib import Path; "
        "Registry(sys.argv[1]).add(Path(sys.argv[2]), 'sst2')"
    )
    calls = "trace=fsync,rename,renameat,renameat2,write,openat,close"
    artifact = tiny_artifact("classification", "fine-tuning")
    command = ["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", str(log), sys.executable, "-c", program]
    subprocess.run([*command, str(root), str(artifact)], check=True)
    return _violations(log.read_text().splitlines(), str(root))


def _violations(lines: list[str], root: str) -> dict[str, Any]:
    """Renames before the file's fsync, or after which the folder was not synced before the next one."""
    counts = Counter(renames=0, violations=0)
    synced: set[str] = set()
    owed: str | None = None
    for line in lines:
        call = line.partition(" ")[2].strip()
        if call.startswith("write(") and f"<{root}" in call:
            synced.discard(call.partition("<")[2].partition(">")[0])
        elif call.startswith("fsync("):
            path = call.partition("<")[2].partition(">")[0]
            synced.add(path)
            owed = None if owed == path else owed
        elif call.startswith("rename") and root in call:
            source, target = [part for part in call.split('"') if part.startswith(root)][:2]
            counts["renames"] += 1
            counts["violations"] += source not in synced or owed is not None
            owed = str(Path(target).parent)
    counts["violations"] += owed is not None
    return dict(counts)


def crowd(folder: Path) -> dict[str, Any]:
    """1,000 versions by 8 processes, while 4 read all that appears."""
    root, writers, each = folder / "models", 8, 125
    artifacts = [tiny_artifact("classification", method) for method in METHODS]

    def write(number: int) -> None:
        registry = Registry(root, create=True)
        for turn in range(each):
            registry.add(artifacts[(number + turn) % len(artifacts)], f"task{(number + turn) % 3}", aliases=["best"])

    seen: dict[str, int] = {}
    registry = Registry(root, create=True)

    def read() -> None:
        registry.changed()
        for name in registry.names():
            numbers = registry.numbers(name)
            for number in numbers[seen.get(name, 0) :]:
                registry.open(registry.resolve(f"{name}:{number}"))
            seen[name] = len(numbers)

    began = time.perf_counter()
    codes = run_all([partial(write, number) for number in range(writers)], [read] * 4)
    registry.changed()
    numbers = {name: registry.numbers(name) for name in registry.names()}
    return {
        "versions": sum(map(len, numbers.values())),
        "failed processes": sum(code != 0 for code in codes),
        "not 1, 2, ...": sum(found != list(range(1, len(found) + 1)) for found in numbers.values()),
        "faults": len(registry.verify()),
        "seconds": round(time.perf_counter() - began, 1),
    }


def damage(folder: Path) -> dict[str, Any]:
    """1,000 bits flipped or files cut off; each must be refused, by whoever needs the file, with its name."""
    root, chance = fresh(folder), random.Random(SEED)
    references = ["sst2@latest", "sst2@champion", "other"]
    counts: Counter[str] = Counter()
    for _ in range(1000):
        path, mend = damaged(root, chance)
        errors = refusals(root, references)
        counts["damaged"] += 1
        counts["not refused"] += not errors
        counts["file not named"] += any(str(path) not in str(error) for error in errors)
        mend()
    counts["refused when mended"] = len(refusals(root, references))
    return dict(counts)


def look(folder: Path) -> dict[str, Any]:
    """How long it takes to see what was published among 1,000 tasks."""
    root = folder / "models"
    registry = Registry(root, create=True)
    artifact = tiny_artifact("classification", "ptuning-v2")
    for number in range(1000):
        registry.add(artifact, f"task{number}")
    time.sleep(3)  # until what was just written counts as settled
    times = []
    registry.changed()
    for _ in range(21):
        began = time.perf_counter()
        registry.changed()
        times.append(time.perf_counter() - began)
    return {"tasks": len(registry.names()), "milliseconds (median)": round(sorted(times)[10] * 1000, 2)}


PARTS = {
    "killed": killed,
    "power": power,
    "syscalls": syscalls,
    "crowd": crowd,
    "damaged": damage,
    "look": look,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="parts, with commas between them")
    parser.add_argument("--smoke", action="store_true", help="one short part")
    parser.add_argument("--out", type=Path, default=RESULTS.parent, help="folder of the results")
    given = parser.parse_args()
    chosen, results = "look" if given.smoke else given.only, given.out / RESULTS.name
    for method in METHODS:
        tiny_artifact("classification", method)
    found = json.loads(results.read_text()) if results.is_file() else {}
    for name in chosen.split(",") if chosen else PARTS:
        with tempfile.TemporaryDirectory(prefix="foreword-faults-") as folder:
            found[name] = PARTS[name](Path(folder))
        print(name, found[name], flush=True)
    found["made on"] = {"seed": SEED, "python": platform.python_version(), "system": platform.platform()}
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
