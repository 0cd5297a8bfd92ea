"""Who asks: keys kept as hashes, compared in constant time, each with the tasks it may ask."""

from __future__ import annotations

import hmac
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from foreword.errors import RecipeError

_SHORTEST = 16
"""Characters of the shortest admin key that is taken."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from.

    Attributes:
        name: as the file of keys has it, for the log.
        tasks: names it may ask; None for all.
    """

    name: str
    tasks: frozenset[str] | None = None

    def may_ask(self, task: str) -> bool:
        """Whether the task exists, as far as this caller is concerned."""
        return self.tasks is None or task in self.tasks


ANYBODY = Caller("anybody")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    tasks: tuple[str, ...] | None = None


class Keys:
    """Callers by the sha256 of their keys. The keys themselves are nowhere.

    Args:
        callers: sha256 of a key, as bytes -> who has it.
    """

    def __init__(self, callers: Mapping[bytes, Caller]) -> None:
        self._callers = tuple(callers.items())

    def caller(self, authorization: str | None) -> Caller | None:
        """Who sent this header, ``Bearer KEY``; None if nobody known did.

        Every hash is compared, whichever fits, so the time says nothing.
        """
        match = re.fullmatch(r"[Bb]earer +(\S+) *", authorization or "")
        digest = sha256((match[1] if match else "").encode("utf-8", "surrogateescape")).digest()
        found = None
        for other, caller in self._callers:
            if hmac.compare_digest(digest, other) and match is not None:
                found = caller
        return found


def read_keys(path: Path) -> Keys:
    """The callers of a TOML file, ``[NAME]`` tables with ``sha256`` and, if it may not ask everything, ``tasks``.

    Raises:
        RecipeError: naming the table and key that is wrong.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror or error})", path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"not TOML ({error})", path) from error
    callers: dict[bytes, Caller] = {}
    for name, table in tables.items():
        try:
            entry = _Entry.model_validate(table)
        except ValidationError as error:
            first = error.errors()[0]
            raise RecipeError(f"{'.'.join(map(str, (name, *first['loc'])))}: {first['msg']}", path) from error
        digest = bytes.fromhex(entry.sha256)
        if digest in callers:
            raise RecipeError(f"{name}: has the same key as {callers[digest].name}", path)
        callers[digest] = Caller(name, None if entry.tasks is None else frozenset(entry.tasks))
    if not callers:
        raise RecipeError("holds no key, so nobody could ask anything. Add a table [NAME] with its sha256", path)
    return Keys(callers)


def read_admin_key(path: Path) -> Keys:
    """The one key of a file that holds nothing else.

    Raises:
        RecipeError: it cannot be read, is no key, or one that is soon guessed.
    """
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot be read ({error})", path) from error
    if len(key) < _SHORTEST or len(key.split()) != 1:
        raise RecipeError(f"expected one key of at least {_SHORTEST} characters without spaces", path)
    return Keys({sha256(key.encode()).digest(): Caller("admin")})
