"""What a search leaves for people: the best recipe, a table of all trials, a picture, and a page about them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from foreword.errors import OutputError
from foreword.recipes.templates import write_out
from foreword.recipes.templates.settings import toml_value
from foreword.studies.tuning.drawing import draw_trials
from foreword.studies.tuning.search import Tuned
from foreword.studies.tuning.space import widest
from foreword.studies.tuning.trials import Trial, in_words, ranked

RECIPE, TABLE, PICTURE, PAGE = "best.toml", "trials.csv", "trials.png", "summary.md"
SHOWN = 10
"""Trials on the page; the table has all."""


def write_summary(folder: Path, tuned: Tuned, importances: dict[str, float]) -> None:
    """Write all of it.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        (folder / RECIPE).write_text(best_recipe(tuned), "utf-8")
        _write_table(folder / TABLE, tuned)
        draw_trials(folder / PICTURE, tuned.trials, widest(tuned.space), importances)
        (folder / PAGE).write_text(_page(folder, tuned, importances), "utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error


def best_recipe(tuned: Tuned) -> str:
    """The text of the best recipe."""
    best = tuned.best
    remarks = [
        f"The best of {len(tuned.trials)} trials of '{tuned.recipe.name}' by `foreword tune`: trial {best.number}, "
        f"{best.metric} {best.value:.4f} on the part of",
        "the training data that it was selected on. Lines such as '#key = value' show defaults.",
        f"Chosen: {in_words(best.settings)}.",
    ]
    return write_out(tuned.recipe, remarks=remarks, chosen=best.settings)


def cells(trial: Trial, paths: Sequence[str] = ()) -> list[str]:
    """A trial as a row: number, end, value, and the settings at these paths."""
    value = "" if trial.value is None else f"{trial.value:.4f}"
    return [str(trial.number), trial.end, value, *_settings(trial, paths)]


def test_words(folder: Path, tuned: Tuned) -> str:
    """What the test data said, and how often they were asked."""
    test = tuned.manifest.test
    if test is None:
        return "There are no dev or test data to score the best settings on: its value is the one it was selected by."
    asked = sum(1 for _ in folder.glob("trial-*/artifact"))
    again = "once" if asked == 1 else f"{asked} times, for the best of each sitting"
    return (
        f"Test {test.main} of trial {tuned.best.number}: {test.values[test.main]:.4f}. No trial saw these data; "
        f"they were scored {again}."
    )


def _settings(trial: Trial, paths: Sequence[str]) -> list[str]:
    return [toml_value(trial.settings[path]) if path in trial.settings else "" for path in paths]


def _write_table(path: Path, tuned: Tuned) -> None:
    paths = list(widest(tuned.space))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "end", "value", "evaluations", "trained", "seconds", *paths])
        for one in tuned.trials:
            trained = "" if one.trained is None else one.trained
            known = [one.number, one.end, one.value, len(one.values), trained, one.seconds]
            writer.writerow([*known, *_settings(one, paths)])


def _page(folder: Path, tuned: Tuned, importances: dict[str, float]) -> str:
    best, paths = tuned.best, list(widest(tuned.space))
    ends = [one.end for one in tuned.trials]
    data = tuned.recipe.data
    lines = [
        f"# Search of {tuned.recipe.name}",
        "",
        f"{len(ends)} trials: {ends.count('finished')} finished, {ends.count('pruned')} pruned, "
        f"{ends.count('diverged')} diverged. Trial 0 is the recipe as it stands.",
        "",
        f"**Trial {best.number}** is the best: {best.metric} {best.value:.4f} on {data.holdout:.0%} of the training "
        f"data, put aside to select on ({in_words(best.settings)}).",
        "",
        test_words(folder, tuned),
        "",
        f"Train it: `foreword train {folder / RECIPE}`. Its run is in `{tuned.run.name}`.",
        "",
        f"![Trials]({PICTURE})",
        "",
        *_markdown(
            ["trial", "end", best.metric, *(path.rpartition(".")[2] for path in paths)],
            [cells(one, paths) for one in ranked(tuned.trials)[:SHOWN]],
        ),
    ]
    if importances:
        rows = [[path, f"{share:.0%}"] for path, share in importances.items()]
        lines += ["", "Share of the differences that a setting explains alone (fANOVA, finished trials):", ""]
        lines += _markdown(["setting", "share"], rows)
    lines += [f"\nNot searched: {note}" for note in tuned.notes]
    lines += ["", "All trials were run with one seed: differences of a few examples are chance."]
    return "\n".join(lines) + "\n"


def _markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
