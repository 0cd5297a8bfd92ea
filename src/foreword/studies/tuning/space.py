"""What a search may change: dimensions, some of which only count where another setting has a certain value."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Protocol

from foreword.errors import ForewordError, RecipeError
from foreword.recipes.schema import Recipe, parse_recipe
from foreword.recipes.search import Range, Values
from foreword.recipes.templates import value_at
from foreword.recipes.templates.settings import toml_value


class Draws(Protocol):
    """Whoever chooses: a trial of optuna, or a test."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number in a range."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number in a range."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of some texts."""


@dataclass(frozen=True)
class Dimension:
    """One setting and its values.

    Attributes:
        path: of the setting, such as "training.learning_rate".
        values: a range, or what to choose from.
        when: path and value of another setting; with any other value this dimension does not count.
        extra: whether it is one that a recipe may not have room for, and that is left out then.
    """

    path: str
    values: Values
    when: tuple[str, Any] | None = None
    extra: bool = True

    @property
    def name(self) -> str:
        """What a search calls it: ranges that differ by another setting are of different names."""
        return self.path if self.when is None else f"{self.path} ({self.when[0]} = {toml_value(self.when[1])})"

    @property
    def ends(self) -> tuple[Any, ...]:
        """Every choice, or both ends of the range."""
        return (self.values.low, self.values.high) if isinstance(self.values, Range) else self.values

    def draw(self, draws: Draws) -> Any:
        """One of the values."""
        values = self.values
        if not isinstance(values, Range):
            texts = [toml_value(value) for value in values]  # what can be stored, lists too
            return values[texts.index(draws.suggest_categorical(self.name, texts))]
        if values.whole:
            return draws.suggest_int(self.name, int(values.low), int(values.high), log=values.log)
        drawn = draws.suggest_float(self.name, values.low, values.high, log=values.log)
        return min(max(float(f"{drawn:.3g}"), values.low), values.high)  # three digits say all there is to say


Space = tuple[Dimension, ...]


def draw(space: Space, recipe: Recipe, draws: Draws) -> dict[str, Any]:
    """Path -> value of every dimension that counts, given the recipe and what was drawn before."""
    drawn: dict[str, Any] = {}
    resolved = recipe.to_dict()
    for dimension in space:
        path, value = dimension.when or (None, None)
        if path is None or drawn.get(path, value_at(resolved, path)) == value:
            drawn[dimension.path] = dimension.draw(draws)
    return drawn


def widest(space: Space) -> dict[str, Values]:
    """Path -> all its values, whatever they depend on."""
    found: dict[str, Values] = {}
    for dimension in space:
        known, values = found.get(dimension.path, dimension.values), dimension.values
        if isinstance(known, Range) and isinstance(values, Range):
            low, high = min(known.low, values.low), max(known.high, values.high)
            found[dimension.path] = Range(low=low, high=high, log=known.log and values.log)
        else:
            found[dimension.path] = values
    return found


def with_settings(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe with other values at some dotted paths.

    Raises:
        RecipeError: it is none any more.
    """
    raw: dict[str, Any] = deepcopy(recipe.to_dict())
    for path, value in settings.items():
        *tables, key = path.split(".")
        table = raw
        for name in tables:
            table = table.setdefault(name, {})
        table[key] = value
    return replace(parse_recipe(raw, name=recipe.name), search=recipe.search)


def narrowed(space: Space, recipe: Recipe, names: Sequence[str]) -> Space:
    """The space with what the recipe says in ``[search]``, and only the settings of these names if there are any.

    Args:
        names: whole paths, or what stands behind the last dot.

    Raises:
        RecipeError: no dimension is called so.
    """
    own = [Dimension(path, values, extra=False) for path, values in recipe.search.items()]
    together = (*(dimension for dimension in space if dimension.path not in recipe.search), *own)
    paths = dict.fromkeys(dimension.path for dimension in together)
    wanted: set[str] = set()
    for name in names:
        found = [path for path in paths if name in (path, path.rpartition(".")[2])]
        if not found:
            close = difflib.get_close_matches(name, [word for path in paths for word in (path, path.split(".")[-1])], 1)
            guess = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(paths)}"
            raise RecipeError(f"--search {name}: nothing of that name is searched; {guess}. Add it in [search]")
        wanted.update(found)
    chosen = tuple(one for one in together if not names or one.path in wanted)
    if not chosen:
        raise RecipeError("nothing to search: this method has no settings of its own. Name some in [search]")
    return chosen


def fitting(space: Space, recipe: Recipe, check: Callable[[Recipe], None]) -> tuple[Space, list[str]]:
    """The dimensions that this recipe has room for, and in words why others are left out.

    Args:
        space: what is to be searched.
        recipe: what is changed.
        check: raises if a changed recipe cannot be run.

    Raises:
        RecipeError: a value that the user asks for does not fit.
    """
    kept: list[Dimension] = []
    notes: list[str] = []
    for dimension in space:
        when = {} if dimension.when is None else dict([dimension.when])
        never = any(value_at(recipe.to_dict(), path) != value for path, value in when.items())
        if never and not any(one.path in when for one in kept):
            continue
        try:
            for value in dimension.ends:
                check(with_settings(recipe, {**when, dimension.path: value}))
        except ForewordError as error:
            if not dimension.extra:
                raise RecipeError(f"search.{dimension.path}: {error}") from error
            notes.append(f"{dimension.path} stays as it is: {error}")
        else:
            kept.append(dimension)
    return tuple(kept), notes
