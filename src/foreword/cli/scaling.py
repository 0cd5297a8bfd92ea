"""What the commands that may run on Ray share: their options' checks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from foreword.errors import ForewordError, RecipeError


def check_ray() -> None:
    """Refuse to go on without Ray.

    Raises:
        ForewordError: saying what to install.
    """
    if find_spec("ray") is None:
        raise ForewordError("--ray needs Ray. Install it: pip install 'foreword[ray]'")


def refuse(given: Mapping[str, object], why: str) -> None:
    """Refuse options that mean nothing here.

    Args:
        given: option -> its value; None or False where it was not given.
        why: they mean nothing.

    Raises:
        RecipeError: naming the first that was given.
    """
    for option, value in given.items():
        if value is not None and value is not False:
            raise RecipeError(f"{option} {why}")


def seen_from_anywhere(backbone: str) -> str:
    """The name of a backbone for processes that run in another folder."""
    return str(Path(backbone).absolute()) if Path(backbone).is_dir() else backbone


def replicas_between(text: str) -> tuple[int, int]:
    """Fewest and most replicas, of ``1:4``.

    Raises:
        RecipeError: it is no such range.
    """
    match = re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise RecipeError(f"--autoscale: '{text:.40}' is no range. Write the fewest and the most replicas, such as 1:4")
    return int(match[1]), int(match[2])
