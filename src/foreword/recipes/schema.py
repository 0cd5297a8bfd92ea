"""A recipe: all that decides one run, as five tables of a TOML file, and a sixth for searches through many runs.

``[task]`` and ``[method]`` are the classes of the task and method tables themselves, so a new one
brings its own settings and nothing here changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationInfo, field_validator

from foreword.backbones.quantization import Quantization
from foreword.data.readers import FORMATS, HUB_PREFIX, ReadOptions
from foreword.data.sources import Source
from foreword.errors import RecipeError
from foreword.methods import METHODS, Method
from foreword.recipes.checking import check, check_typed, sections_of
from foreword.recipes.search import Values, parse_search
from foreword.tasks import TASKS, Task
from foreword.training.description import PATHS
from foreword.training.settings import TrainingSettings

Side = Literal["train", "dev", "test"]


class Table(BaseModel):
    """Base of the recipe's own tables."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class BackboneTable(Table):
    """``[backbone]``: which pretrained model."""

    name: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A hub name, or a folder written by save_pretrained."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the frozen weights; what is trained stays float32."""
    language_model: bool = False
    """Load its vocabulary head too, which heads that read the vocabulary need (task.head)."""
    quantization: Quantization | None = None
    """Round the frozen weights: int8 (on a CPU), bitsandbytes-8bit or bitsandbytes-4bit. Not for fine-tuning."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """``dtype`` as torch has it."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found


class DataTable(Table):
    """``[data]``: which files, and how to read them."""

    train: tuple[str, ...]
    """File, or list of files, to train on. Relative to the recipe; $NAME is taken from the environment."""
    holdout: float | None = Field(default=None, gt=0, lt=1)
    """Share of the training examples to put aside at random and select on, instead of dev files."""
    dev: tuple[str, ...] = Field(default=(), validate_default=True)
    """File, or list of files, to evaluate on while training. The best weights there are kept."""
    test: tuple[str, ...] = ()
    """File, or list of files, to score once, when training is over; nothing is selected on it."""
    test_holdout: float | None = Field(default=None, gt=0, lt=1)
    """Share of the training examples to put aside at random, before anything else, instead of test files."""
    format: str = "auto"
    """jsonl, csv, tsv, conll, props, srl-lines, squad, mrqa, e2e, webnlg, dart or datasets; 'auto' goes by the file's
    name."""
    token_column: int = 0
    """conll: column of the word, counted from 0; negative counts from the end."""
    tag_column: int = -1
    """conll: column of the tag."""
    separator: str | None = None
    """conll, props: what separates columns; any white space in conll and tabs in props when left out."""
    quoting: bool | None = None
    """csv, tsv: whether '"' quotes a value; yes for csv and no for tsv when left out."""
    train_split: str = "train"
    """datasets: name of the split to train on."""
    dev_split: str = "validation"
    """datasets: name of the split to evaluate on."""
    test_split: str = "test"
    """datasets: name of the split to score on in the end."""
    train_limit: PositiveInt | None = None
    """Train on so many of the first examples only."""
    train_sample: PositiveInt | None = None
    """Draw so many training examples at random, the same for every seed of a run."""
    dev_sample: PositiveInt | None = None
    """Draw so many dev examples in the same way."""
    test_sample: PositiveInt | None = None
    """Draw so many test examples in the same way."""

    @field_validator("train", "dev", "test", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("dev")
    @classmethod
    def _something_to_select_on(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "holdout" in info.data and bool(value) == (info.data["holdout"] is not None):
            raise ValueError(
                "leave it out with data.holdout" if value else "is missing; name a file, or set data.holdout"
            )
        return value

    @field_validator("test_holdout")
    @classmethod
    def _one_test(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("test"):
            raise ValueError("leave it out with data.test")
        return value

    @field_validator("format")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in {"auto", *FORMATS}:
            raise ValueError(f"'{value}' is not one of auto, {', '.join(FORMATS)}")
        return value

    @property
    def has_test(self) -> bool:
        """Whether there is anything to score in the end."""
        return bool(self.test) or self.test_holdout is not None

    def absolute_files(self) -> dict[str, list[str]]:
        """Side -> its files as seen from anywhere."""
        return {
            side: [file if file.startswith(HUB_PREFIX) else str(Path(file).absolute()) for file in files]
            for side, files in (("train", self.train), ("dev", self.dev), ("test", self.test))
            if files
        }

    def source(self, side: Side) -> Source:
        """The examples of one side; with a holdout, 'dev' and 'test' are training examples that were put aside."""
        aside = {"dev": self.holdout, "test": self.test_holdout}
        held_out = side if side != "train" and aside[side] is not None else None
        origin: Side = side if held_out is None else "train"
        options = ReadOptions(
            token_column=self.token_column,
            tag_column=self.tag_column,
            separator=self.separator,
            quoting=self.quoting,
            split=getattr(self, f"{origin}_split"),
        )
        files = partial(Source, files=getattr(self, origin), format=self.format, options=options)
        if origin != "train":
            return files(sample=getattr(self, f"{side}_sample"))
        shared = partial(files, test_holdout=self.test_holdout or 0.0, held_out=held_out)
        if side == "test":
            return shared(sample=self.test_sample)
        return shared(limit=self.train_limit, sample=self.train_sample, holdout=self.holdout or 0.0)


@dataclass(frozen=True)
class TaskEntry:
    """A task and its data."""

    task: Task[Any, Any]
    data: DataTable

    def to_dict(self) -> dict[str, Any]:
        """Both tables as plain values, files as seen from anywhere."""
        return {
            "task": {
                "type": self.task.name,
                **_from_anywhere("task", self.task.model_dump(mode="json", exclude_none=True)),
            },
            "data": self.data.model_dump(mode="json", exclude_none=True) | self.data.absolute_files(),
        }


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        search: what `foreword tune` may change; it decides nothing about the run itself.
    """

    name: str
    backbone: BackboneTable
    task: Task[Any, Any]
    data: DataTable
    method: Method
    training: TrainingSettings
    search: Mapping[str, Values] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The resolved recipe, every default written out, as plain values without None.

        Files are absolute, so that it means the same from every folder.
        """
        entry = TaskEntry(self.task, self.data).to_dict()
        return {"name": self.name, **resolved(self.backbone, entry, self.method, self.training)}


def resolved(
    backbone: BackboneTable, entry: Mapping[str, Any], method: Method, training: TrainingSettings
) -> dict[str, Any]:
    """Tables of a resolved recipe in their order, ``entry`` being what it says of tasks."""
    return {
        "backbone": backbone.model_dump(mode="json", exclude_none=True),
        **entry,
        "method": {"type": method.name, **method.model_dump(mode="json", exclude_none=True)},
        "training": _from_anywhere("training", training.model_dump(mode="json", exclude_none=True)),
    }


def _from_anywhere(section: str, table: dict[str, Any]) -> dict[str, Any]:
    """A table of a recipe with its paths as they are seen from every folder."""
    keys = [key for home, key in PATHS if home == section and key in table]
    return table | {key: str(Path(table[key]).absolute()) for key in keys}


SECTIONS = ("name", "backbone", "task", "data", "method", "training", "search")


def parse_recipe(raw: Mapping[str, Any], *, name: str, source: str | None = None) -> Recipe:
    """Check a recipe as it came out of TOML and report every mistake at once.

    Args:
        raw: the tables.
        name: what to call the run if the recipe does not say.
        source: the file, for messages.

    Raises:
        RecipeError: with one sentence per mistake.
    """
    mistakes: list[str] = []
    tables = sections_of(raw, SECTIONS, mistakes)
    parts = {
        "backbone": check(BackboneTable, tables["backbone"], "backbone", mistakes),
        "task": check_typed(TASKS, tables["task"], "task", mistakes),
        "data": check(DataTable, tables["data"], "data", mistakes),
        "method": check_typed(METHODS, tables["method"], "method", mistakes, default="ptuning-v2"),
        "training": check(TrainingSettings, tables["training"], "training", mistakes),
    }
    search = parse_search(tables["search"], mistakes)
    check_vocabulary([parts["task"]], parts["backbone"], mistakes)
    if mistakes:
        raise RecipeError(mistakes, source)
    return Recipe(name=raw.get("name", name), search=search, **parts)  # type: ignore[arg-type]  # no mistakes: none is None


def check_vocabulary(tasks: Iterable[BaseModel | None], backbone: BaseModel | None, mistakes: list[str]) -> None:
    """See that heads which read the vocabulary get a backbone that has one; None is what was wrong already."""
    needed = any(isinstance(task, Task) and task.needs_language_model for task in tasks)
    if needed and not getattr(backbone, "language_model", True):
        mistakes.append("backbone.language_model: the task's head reads the vocabulary; set it to true")


def parse_task(raw: Mapping[str, Any], source: str | None = None) -> Task[Any, Any]:
    """Check a ``[task]`` table alone.

    Raises:
        RecipeError: with one sentence per mistake.
    """
    mistakes: list[str] = []
    task = check_typed(TASKS, raw, "task", mistakes)
    if task is None:
        raise RecipeError(mistakes, source)
    return task
