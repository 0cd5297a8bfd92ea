"""Example data made up on the spot: three small data sets, one per kind of task.

Nothing in them is taken from anywhere, nobody in them is real, and the same seed always writes
the same bytes. They are hard enough to learn something on and small enough to do so in minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from foreword.data.synthetic.diary import make_diary
from foreword.data.synthetic.notices import make_notices
from foreword.data.synthetic.tickets import make_tickets
from foreword.errors import OutputError

__all__ = ["ExamplePaths", "Sizes", "write_example_data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much to write: messages (tickets), sentences (diary), questions (notices).

    Raises:
        ValueError: a size is less than 1.
    """

    tickets_train: int = 400
    tickets_dev: int = 150
    diary_train: int = 400
    diary_dev: int = 150
    notices_train: int = 400
    notices_dev: int = 120

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplePaths:
    """The files written.

    Attributes:
        tickets_train: JSON Lines, ``text`` and ``label``; so is ``tickets_dev``.
        diary_train: CoNLL, tab-separated token and IOB2 tag; so is ``diary_dev``.
        notices_train: SQuAD 2.0 JSON; so is ``notices_dev``.
    """

    tickets_train: Path
    tickets_dev: Path
    diary_train: Path
    diary_dev: Path
    notices_train: Path
    notices_dev: Path


_SIZES = Sizes()
_Maker = Callable[[Random, int, str, set[Hashable]], str]


def write_example_data(folder: Path, seed: int = 0, sizes: Sizes = _SIZES) -> ExamplePaths:
    """Write the three data sets, each as a training and a dev file, into ``folder``.

    No text of a dev file is in its training file. The dev files do not depend on the sizes of the
    training files. The folder is made if need be; files that hold the very same bytes are left.

    Raises:
        OutputError: a file of that name with other content exists, or a file cannot be written.
        ValueError: a size is larger than the number of different items there are.
    """
    texts = {
        **_both_parts("tickets", ".jsonl", _tickets, seed, train=sizes.tickets_train, dev=sizes.tickets_dev),
        **_both_parts("diary", ".conll", _diary, seed, train=sizes.diary_train, dev=sizes.diary_dev),
        **_both_parts("notices", ".json", _notices, seed, train=sizes.notices_train, dev=sizes.notices_dev),
    }
    contents = {folder / name: text.encode("utf-8") for name, text in texts.items()}
    _check_free(contents)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            path.write_bytes(content)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return ExamplePaths(**{path.stem.replace("-", "_"): path for path in contents})


def _both_parts(name: str, suffix: str, make: _Maker, seed: int, *, train: int, dev: int) -> dict[str, str]:
    """File name -> text of the dev part, made first, and of the training part, which avoids it."""
    rng = Random(f"{name} {seed}")
    seen: set[Hashable] = set()
    parts = {"dev": dev, "train": train}
    return {f"{name}-{part}{suffix}": make(rng, size, f"{name}-{part}", seen) for part, size in parts.items()}


def _check_free(contents: dict[Path, bytes]) -> None:
    for path, content in contents.items():
        if path.exists() and not (path.is_file() and path.read_bytes() == content):
            raise OutputError(f"{path}: exists and holds something else; choose another folder")


def _tickets(rng: Random, count: int, name: str, seen: set[Hashable]) -> str:
    del name
    return "".join(json.dumps(ticket) + "\n" for ticket in make_tickets(rng, count, seen))


def _diary(rng: Random, count: int, name: str, seen: set[Hashable]) -> str:
    del name
    sentences = make_diary(rng, count, seen)
    return "\n".join("".join(f"{word}\t{tag}\n" for word, tag in sentence) for sentence in sentences)


def _notices(rng: Random, count: int, name: str, seen: set[Hashable]) -> str:
    return json.dumps(make_notices(rng, count, name, seen), ensure_ascii=False, indent=1) + "\n"
