"""A study as people write it: a TOML file, or a list of recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeInt, ValidationError, field_validator

from foreword.errors import RecipeError
from foreword.recipes.checking import mistakes_of
from foreword.recipes.load import load_recipe, parse_toml, read_tables, read_text
from foreword.recipes.schema import Recipe, Table
from foreword.studies.cells.cell import changes, merged
from foreword.studies.cells.study import Entrant, Overrides, Study

HOLDOUT = 0.15
SEEDS = (11, 12, 13)


def _dotted(table: dict[str, Any]) -> dict[str, Any]:
    for key in table:
        if "." not in key:
            raise ValueError(f"'{key}' is not section.key, such as \"training.epochs\"")
    return table


Changes = Annotated[dict[str, Any], AfterValidator(_dotted)]


class ChangesTable(Table):
    """Changes of recipes, ``"section.key" = value`` each."""

    set: Changes = Field(default_factory=dict)
    """For every cell."""
    trial_set: Changes = Field(default_factory=dict)
    """For trials only, on top, such as fewer epochs."""


class SearchTable(ChangesTable):
    """Changes, and a choice among further ones."""

    search: tuple[Changes, ...] = ()
    """Settings to try; the first `trials` of them are tried."""


class RecipeTable(ChangesTable):
    """``[recipe.NAME]``: changes for the cells of one recipe."""

    method: dict[str, SearchTable] = Field(default_factory=dict)
    """And for those of one method among them, which may search among settings of its own there."""


class MethodTable(SearchTable):
    """``[method.NAME]``: what a method is."""

    label: str | None = None
    """What people call it."""


class StudyTable(Table):
    """A study file."""

    name: str | None = None
    """What the study is called; the file's name when left out."""
    recipes: tuple[str, ...] = Field(min_length=1)
    """Recipe files, relative to the study, or names of packaged ones: what is compared on."""
    methods: tuple[str, ...] = Field(min_length=1)
    """Which methods, in the order of the table's columns; each has a [method.NAME]."""
    seeds: tuple[NonNegativeInt, ...] = Field(default=SEEDS, min_length=1)
    """Seeds of the runs that are reported."""
    holdout: float = Field(default=HOLDOUT, ge=0, lt=1)
    """Share of the training data to select on; what recipes select on becomes test data. 0 leaves both as they are."""
    trials: NonNegativeInt = 3
    """How many settings of its search each method may try on each recipe."""
    trial_seed: NonNegativeInt = 11
    """Seed of the trials."""
    set: Changes = Field(default_factory=dict)
    """Changes for every cell."""
    recipe: dict[str, RecipeTable] = Field(default_factory=dict)
    """Changes for the cells of one recipe each; a file goes by its name without folder and ending."""
    method: dict[str, MethodTable] = Field(default_factory=dict)
    """What the methods are."""

    @field_validator("recipes", "methods", "seeds")
    @classmethod
    def _once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [one for number, one in enumerate(value) if one in value[:number]]
        if twice:
            raise ValueError(f"'{twice[0]}' comes twice")
        return value

    def mistakes(self) -> Iterator[str]:
        """What no single field can know."""
        for method in self.methods:
            if method not in self.method:
                yield f"methods: '{method}' has no [method.{method}]"
        yield from (f"method.{name}: is not among the methods" for name in self.method if name not in self.methods)
        searches = {f"method.{name}.search": table.search for name, table in self.method.items()}
        for recipe, of_recipe in self.recipe.items():
            searches |= {f"recipe.{recipe}.method.{name}.search": one.search for name, one in of_recipe.method.items()}
        for place, search in searches.items():
            if 0 < len(search) < self.trials:
                yield (
                    f"{place}: has {len(search)} settings, fewer than the {self.trials} trials of every method. "
                    "Add some, or lower trials"
                )
        rows = [row_of(recipe) for recipe in self.recipes]
        yield from (f"recipes: two are called '{row}'" for row in sorted({row for row in rows if rows.count(row) > 1}))
        for name, table in self.recipe.items():
            if name not in rows:
                yield f"recipe.{name}: is not among the recipes ({', '.join(rows)})"
            strange = (method for method in table.method if method not in self.methods)
            yield from (f"recipe.{name}.method.{method}: is not among the methods" for method in strange)


def row_of(recipe: str) -> str:
    """What a recipe is called in the table."""
    return Path(recipe).name.removesuffix(".toml")


def is_study(path: str) -> bool:
    """Whether this is a study and no recipe: a TOML file that names recipes."""
    return path.endswith(".toml") and Path(path).is_file() and "recipes" in parse_toml(read_text(Path(path)), path)


def load_study(path: Path) -> Study:
    """Read and check a study file, with the recipes it names and all their changes.

    Raises:
        RecipeError: all mistakes at once.
    """
    raw = parse_toml(read_text(path), path)
    try:
        table = StudyTable.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(mistakes_of(StudyTable, error), path) from error
    mistakes = list(table.mistakes())
    if mistakes:
        raise RecipeError(mistakes, path)
    entrants = [_entrant(table, recipe, method, path.parent) for recipe in table.recipes for method in table.methods]
    labels = {name: method.label for name, method in table.method.items() if method.label is not None}
    return _checked(Study(table.name or path.stem, tuple(entrants), table.seeds, labels), path)


def study_of_recipes(
    recipes: Sequence[str], *, name: str = "compare", seeds: Sequence[int] = SEEDS, holdout: float = HOLDOUT
) -> Study:
    """A study of whole recipes, such as those of two methods on the same data, as they are and without trials.

    Raises:
        RecipeError: all mistakes at once.
    """
    loaded = {recipe: load_recipe(recipe) for recipe in recipes}
    entrants = [
        Entrant(data, method, recipe, selection_apart(recipe, (), holdout))
        for data, group in _by_data(loaded).items()
        for recipe, method in _columns(group).items()
    ]
    return _checked(Study(name, tuple(entrants), tuple(seeds), {}), None)


def selection_apart(recipe: str, overrides: Overrides, holdout: float) -> Overrides:
    """Further changes that let a recipe select on a part of its training data, and test on what it selects on now.

    A recipe with test data of its own is left as it is.

    Args:
        recipe: a file, or the name of a packaged recipe.
        overrides: changes that come before.
        holdout: share of the training data to select on; 0 changes nothing.
    """
    data = read_tables(recipe, overrides).get("data", {})
    if not holdout or data.get("test") or data.get("test_holdout"):
        return ()
    if data.get("holdout") is not None:
        return changes({"data.test_holdout": data["holdout"], "data.holdout": holdout})
    moved = {f"data.test{rest}": data[f"dev{rest}"] for rest in ("_split", "_sample") if f"dev{rest}" in data}
    if data.get("format") == "datasets" or "hub:" in str(data.get("dev")):
        moved.setdefault("data.test_split", "validation")
    return changes({**moved, "data.holdout": holdout, "data.dev": [], "data.test": data.get("dev", [])})


def _entrant(study: StudyTable, recipe: str, method: str, folder: Path) -> Entrant:
    of_recipe, of_method = study.recipe.get(row_of(recipe), RecipeTable()), study.method[method]
    of_both = of_recipe.method.get(method, SearchTable())
    place = str(folder / recipe) if recipe.endswith(".toml") else recipe
    tables = (of_method, of_recipe, of_both)
    overrides = merged(changes(study.set), *(changes(table.set) for table in tables))
    return Entrant(
        data=row_of(recipe),
        method=method,
        recipe=place,
        overrides=merged(overrides, selection_apart(place, overrides, study.holdout)),
        search=tuple(changes(one) for one in (of_both.search or of_method.search)[: study.trials]),
        trial=merged(*(changes(table.trial_set) for table in tables)),
        trial_seed=study.trial_seed,
    )


def _checked(study: Study, source: Path | None) -> Study:
    """The study, once every recipe in it is found good."""
    mistakes: dict[str, None] = {}
    for entrant in study.entrants:
        for cell in entrant.trials() or (entrant.first,):
            try:
                cell.checked  # noqa: B018  read for its errors
            except RecipeError as error:
                mistakes |= {f"{entrant.data}, {entrant.method}: {mistake}": None for mistake in error.mistakes}
    if mistakes:
        raise RecipeError(list(mistakes), source)
    return study


def _by_data(recipes: Mapping[str, Recipe]) -> dict[str, dict[str, Recipe]]:
    """The recipes by what they are trained on: a name for it -> those that share task and data."""
    groups: dict[str, dict[str, Recipe]] = {}
    for name, recipe in recipes.items():
        tables = recipe.to_dict()
        groups.setdefault(repr((tables["task"], tables["data"])), {})[name] = recipe
    named: dict[str, dict[str, Recipe]] = {}
    for group in groups.values():
        first, recipe = next(iter(group.items()))
        name = row_of(first).removesuffix(f"-{recipe.method.name}")
        named[name if name not in named else first] = group
    return named


def _columns(group: Mapping[str, Recipe]) -> dict[str, str]:
    """Recipe -> its column: its method, or where two have the same, its own name."""
    methods = [recipe.method.name for recipe in group.values()]
    return {name: m if methods.count(m := recipe.method.name) == 1 else row_of(name) for name, recipe in group.items()}
