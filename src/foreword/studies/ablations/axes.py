"""What is varied: the figures and tables of the paper, and any other setting.

Source: Liu et al. 2022 (P-Tuning v2): figure 3 (depth), figure 4 (prompt length, reparameterization), table 4 (head).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from foreword.backbones import plan_backbone
from foreword.errors import RecipeError
from foreword.recipes.load import load_recipe
from foreword.recipes.schema import Recipe
from foreword.recipes.templates import value_at
from foreword.studies.cells.cell import changes
from foreword.tasks import Classification
from foreword.tasks.making.pooled import Pooled

LENGTHS = (4, 8, 16, 32, 64, 128)
STEPS = 6
"""Depths that are tried: so many, evenly, as in the paper's figure of 24 layers."""


@dataclass(frozen=True)
class Point:
    """One configuration.

    Attributes:
        series: which line of the figure it belongs to.
        at: what is written below it.
        overrides: what makes it of the recipe.
        place: where it stands on the axis; None where the axis has no scale.
    """

    series: str
    at: str
    overrides: tuple[str, ...]
    place: float | None = None


@dataclass(frozen=True)
class Axis:
    """A figure to be.

    Attributes:
        name: for files.
        label: written along the axis.
        points: series by series, each in order.
        logarithmic: whether twice as much is one step.
        note: what a reader should know.
    """

    name: str
    label: str
    points: tuple[Point, ...]
    logarithmic: bool = False
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """What is varied.

    Attributes:
        recipe: a file, or the name of a packaged recipe.
        overrides: changes for all points.
        template: of verbalizers, for the axis 'head'; text, pair and a mask when None.
        words: label -> word of verbalizers, for the axis 'head'.
    """

    recipe: str
    overrides: tuple[str, ...] = ()
    template: str | None = None
    words: dict[str, str] = field(default_factory=dict)

    @cached_property
    def checked(self) -> Recipe:
        """The recipe."""
        return load_recipe(self.recipe, self.overrides)

    @cached_property
    def depth(self) -> int:
        """Layers of the deepest stack of the backbone, read off its config."""
        table = self.checked.backbone
        return 1 + max(site.layer for site in plan_backbone(table.name, revision=table.revision).sites)

    def needs(self, axis: str, setting: str) -> None:
        """See that the method has a setting.

        Raises:
            RecipeError: it has not.
        """
        method = self.checked.method
        if setting not in type(method).model_fields:
            raise RecipeError(f"--vary {axis}: the method '{method.name}' has no setting '{setting}'")

    @property
    def kinds(self) -> tuple[str, ...]:
        """What can make the prompt: direct, an MLP, an LSTM; nothing where the method leaves no choice."""
        known = type(self.checked.method).model_fields.get("reparameterization")
        return () if known is None else get_args(known.annotation)

    def made_by(self, kind: str) -> dict[str, Any]:
        """The changes to a prompt made in this way, at the method's own rate for it if it is not the recipe's way."""
        method = self.checked.method
        if value_at(method.model_dump(), "reparameterization") == kind:
            return {"method.reparameterization": kind}
        other = method.model_copy(update={"reparameterization": kind})
        return {"method.reparameterization": kind, "training.learning_rate": other.default_learning_rate}


def axis_of(name: str, values: Sequence[str], subject: Subject) -> Axis:
    """What to run for one word of the command line.

    Args:
        name: a key of `AXES`, or the dotted path of any setting.
        values: as the user wrote them; the axis's own if empty.
        subject: what is varied.

    Raises:
        RecipeError: there is no such axis, or it does not suit the recipe.
    """
    if name in AXES:
        return AXES[name](subject, values)
    if "." not in name:
        close = difflib.get_close_matches(name, AXES, n=1)
        guess = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(AXES)}"
        raise RecipeError(f"--vary {name}: {guess} Or name any setting, such as method.dropout")
    if not values:
        raise RecipeError(f"--vary {name}: needs --values, such as --values 0.0,0.1,0.2")
    return Axis(name, name, _choices(name, values))


def _prompt_length(subject: Subject, values: Sequence[str]) -> Axis:
    """Figure 4."""
    subject.needs("prompt-length", "prompt_length")
    lengths = _numbers("prompt-length", values) or LENGTHS
    kinds = {kind: subject.made_by(kind) for kind in subject.kinds} or {"": {}}
    points = tuple(
        Point(kind, str(length), changes({"method.prompt_length": length, **made}), length)
        for kind, made in kinds.items()
        for length in lengths
    )
    return Axis("prompt-length", "prompt length", points, logarithmic=True, note=_like("figure 4"))


def _depth(subject: Subject, values: Sequence[str]) -> Axis:
    """Figure 3: as many layers, counted from the input up or from the output down, have as many parameters."""
    subject.needs("depth", "layers")
    depth = subject.depth
    every = max(1, depth // STEPS)
    counts = _numbers("depth", values) or tuple(range(every, depth + 1, every))
    if max(counts) > depth:
        raise RecipeError(f"--vary depth: {max(counts)} layers, but the backbone has {depth}")
    points = tuple(
        Point(series, str(count), changes({"method.layers": "all" if count == depth else f"{end}-{count}"}), count)
        for series, end in (("from the input up", "bottom"), ("from the output down", "top"))
        for count in counts
    )
    note = f"Of {depth} layers; the same number of layers has the same number of parameters. {_like('figure 3')}"
    return Axis("depth", "layers with prompts", points, note=note)


def _reparameterization(subject: Subject, values: Sequence[str]) -> Axis:
    subject.needs("reparameterization", "reparameterization")
    points = tuple(Point("", kind, changes(subject.made_by(kind))) for kind in values or subject.kinds)
    return Axis("reparameterization", "reparameterization", points, note=_like("appendix B"))


def _gate(subject: Subject, values: Sequence[str]) -> Axis:
    subject.needs("gate", "gate")
    return Axis("gate", "gate", _choices("method.gate", values or ("false", "true")))


def _init(subject: Subject, values: Sequence[str]) -> Axis:
    subject.needs("init", "init")
    return Axis("init", "start of the prompt", _choices("method.init", values or ("normal", "vocabulary")))


def _head(subject: Subject, values: Sequence[str]) -> Axis:
    """Table 4: a class head, against a language model's own words. The backbone is the same, its own head included."""
    task = subject.checked.task
    if not isinstance(task, Classification) or task.head != "pooled":
        raise RecipeError("--vary head: needs a recipe of task 'classification' with head = 'pooled', to start from")
    heads = values or ("pooled", "verbalizer")
    if "verbalizer" in heads and not subject.words:
        raise RecipeError("--vary head: which word stands for which label? Say it with --words LABEL=WORD,LABEL=WORD")
    text = "{text} {pair} {mask}" if task.columns.pair is not None else "{text} {mask}"
    cloze = {"task.template": subject.template or text} | ({"task.verbalizer": subject.words} if subject.words else {})
    idle = {f"task.{name}": field.default for name, field in Pooled.model_fields.items()}
    common = {"backbone.language_model": True}
    points = tuple(
        Point("", head, changes(common if head == "pooled" else {**common, "task.head": head, **cloze, **idle}))
        for head in heads
    )
    return Axis("head", "head", points, note=_like("table 4"))


AXES: dict[str, Callable[[Subject, Sequence[str]], Axis]] = {
    "prompt-length": _prompt_length,
    "depth": _depth,
    "reparameterization": _reparameterization,
    "head": _head,
    "gate": _gate,
    "init": _init,
}


def _choices(path: str, values: Iterable[str]) -> tuple[Point, ...]:
    """Values of one setting as the user wrote them; numbers get a scale."""
    written = list(values)
    places = [_as_number(value) for value in written]
    scale = places if None not in places else [None] * len(places)
    return tuple(Point("", value, (f"{path}={value}",), place) for value, place in zip(written, scale, strict=True))


def _as_number(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _numbers(axis: str, values: Sequence[str]) -> tuple[int, ...]:
    if not all(value.isdecimal() and int(value) > 0 for value in values):
        raise RecipeError(f"--vary {axis} --values {','.join(values)}: expected whole numbers above 0")
    return tuple(sorted({int(value) for value in values}))


def _like(what: str) -> str:
    return f"After {what} of Liu et al. 2022 (P-Tuning v2)."
