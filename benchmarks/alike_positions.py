"""How much of trained prefixes is the same at every position.

    python benchmarks/alike_positions.py ARTIFACT...

For each artifact, of its keys and of its values: the share of their squares that is left if every position of a layer
and head is replaced by the mean of them all. 1 says that P positions are one; independent random numbers have 1 / P.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from foreword.artifacts.format import load_artifact
from foreword.errors import ForewordError


def common_share(parts: Sequence[Tensor]) -> float:
    """The share of the squares of ``(H, P, E)`` per layer that is the mean over positions, between 0 and 1."""
    common = sum(part.double().mean(dim=1).square().sum().item() * part.shape[1] for part in parts)
    return common / sum(part.double().square().sum().item() for part in parts)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT")
    paths = parser.parse_args().artifacts
    try:
        artifacts = {path: load_artifact(path) for path in paths}
    except ForewordError as error:
        parser.error(str(error))
    print("| prefix | started from | keys | values |\n|---|---|---|---|")
    for path, artifact in artifacts.items():
        settings = artifact.manifest.method.settings
        pairs = list(artifact.prompt.prefix.values())
        if not pairs:
            parser.error(f"{path}: has no keys and values")
        keys, values = (common_share([getattr(pair, what) for pair in pairs]) for what in ("key", "value"))
        start = " ".join(f"{settings[key]}" for key in ("init", "init_scale") if key in settings)
        print(f"| {path} | {start} | {keys:.2f} | {values:.2f} |")


if __name__ == "__main__":
    main()
