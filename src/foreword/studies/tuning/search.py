"""A search: optuna proposes settings, runs of the recipe answer, and the best one is scored on what none of them saw.

OUTPUT/
  search.json      says whose folder it is, and which search it holds
  journal.log      every trial, in optuna's own format
  best.toml        the recipe with the best settings, for `foreword train`
  trials.csv       all trials;  trials.png  the same as a picture;  summary.md  in words
  trial-12/        the run of the best settings, with its artifact
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna

from foreword.artifacts.format import load_artifact
from foreword.artifacts.manifest import Manifest
from foreword.backbones import Backbone
from foreword.data.readers.base import parse_json
from foreword.errors import ForewordError, MethodError, OutputError
from foreword.recipes.run import ARTIFACT, MARKER, check_free, check_method, check_start, run_recipe
from foreword.recipes.schema import Recipe
from foreword.recipes.workbench import Workbench
from foreword.studies.tuning.defaults import default_space
from foreword.studies.tuning.journal import Journal, Pruner, PruningTracker
from foreword.studies.tuning.space import Space, draw, fitting, narrowed, with_settings
from foreword.studies.tuning.split import scored, searched
from foreword.studies.tuning.trials import End, Trial, best_of, in_words
from foreword.training.lockstep import grouped
from foreword.training.loop import Diverged
from foreword.training.run import Keeping, TrainedRun, run_digest
from foreword.training.side_by_side import Planned, pass_of, train_side_by_side, why_alone
from foreword.training.tracking import Tracker, Trackers

MARK, JOURNAL = "search.json", "journal.log"


@dataclass(frozen=True)
class Plan:
    """How to search.

    Attributes:
        names: settings to search, of those that are by default or in the recipe's ``[search]``; all if empty.
        trials: end when so many are over, those of earlier sittings included.
        minutes: begin no trial when this sitting has lasted so long; None for no limit.
        holdout: share of the training examples to select on; the recipe's own, or the default, if None.
        pruner: how trials are given up early.
        seed: of the proposals. Runs keep the recipe's.
        side_by_side: trials that are proposed together, and trained at once as far as they can share a pass.
    """

    names: tuple[str, ...] = ()
    trials: int = 20
    minutes: float | None = None
    holdout: float | None = None
    pruner: Pruner = "median"
    seed: int = 11
    side_by_side: int = 1


@dataclass(frozen=True)
class _Asked:
    """A trial that is not over."""

    number: int
    asked: optuna.trial.Trial
    settings: Mapping[str, Any]
    recipe: Recipe
    pruning: PruningTracker
    shown: Tracker


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        trials: all that are over.
        best: the chosen one.
        space: what was searched.
        notes: what was left out, in words.
        recipe: the recipe with the best settings.
        run: folder of its run.
        manifest: of its artifact, with the scores on test data.
    """

    trials: Sequence[Trial]
    best: Trial
    space: Space
    notes: Sequence[str]
    recipe: Recipe
    run: Path
    manifest: Manifest


class Search:
    """A search in its folder. Nothing is written before recipe, data, backbone and space are found good.

    Args:
        recipe: what is changed. Its dev data are read, to see that they are good, and scored once in the end.
        output: a folder that does not exist, is empty, or holds this search.
        plan: how.

    Raises:
        OutputError: the folder is not ours, or holds another search.
        RecipeError: a setting to search does not exist, or does not fit.
        MethodError: its trials cannot go side by side.
    """

    def __init__(self, recipe: Recipe, output: Path, plan: Plan) -> None:
        refusal = why_alone(recipe.method, recipe.task)
        if plan.side_by_side > 1 and refusal is not None:
            raise MethodError(f"{refusal}. Search one trial after the other (without --side-by-side)")
        self._recipe, self._plan, self._bench = recipe, plan, Workbench()
        self.output, self._base = output, searched(recipe, plan.holdout)
        if not (output / MARK).is_file():
            check_free(output)
        backbone = self._bench.backbone(self._base)
        prepared = self._bench.prepare(scored(self._base, recipe), backbone)

        def check(changed: Recipe) -> None:
            check_method(changed, backbone)
            check_start(changed, backbone, prepared)

        space = narrowed(default_space(recipe.method, _depth(backbone)), recipe, plan.names)
        self.space, self.notes = fitting(space, self._base, check)
        digest = run_digest(self._base.to_dict(), {recipe.task.name: prepared}, backbone)
        _open_folder(output, self._identity(digest))
        self._journal = Journal(output / JOURNAL, pruner=plan.pruner, seed=plan.seed)

    def run(self, tracker: Callable[[str], Tracker], say: Callable[[Trial], None] = lambda _: None) -> None:
        """Try until the plan is fulfilled.

        Args:
            tracker: makes a tracker for the run of the given title.
            say: told about each trial that is over.

        Raises:
            Interrupted: by Ctrl-C. The trial that was running is begun anew when the search goes on.
            ForewordError: a trial cannot be run.
        """
        began = time.monotonic()
        while (number := len(self._journal.trials())) < self._plan.trials:
            if self._plan.minutes is not None and time.monotonic() - began > 60 * self._plan.minutes:
                return
            together = range(number, min(number + self._plan.side_by_side, self._plan.trials))
            for trial in self._try([self._ask(one, one - number, tracker) for one in together]):
                say(trial)

    def finish(self, tracker: Callable[[str], Tracker]) -> Tuned:
        """Run the best settings once more, with what was held back for the end.

        Raises:
            ForewordError: no trial came to its end.
        """
        trials = self._journal.trials()
        best = best_of(trials)
        if best is None:
            raise ForewordError(f"{self.output}: none of {len(trials)} trials came to its end. Search lower rates")
        recipe = scored(with_settings(self._base, best.settings), self._recipe)
        folder = self.output / f"trial-{best.number}"
        if not (folder / ARTIFACT).exists():
            listener = tracker(f"trial {best.number}, the best")
            resume = (folder / MARKER).is_file()
            run_recipe(recipe, folder, resume=resume, tracker=listener, bench=self._bench)
        return Tuned(trials, best, self.space, self.notes, recipe, folder, load_artifact(folder).manifest)

    def _ask(self, number: int, ahead: int, tracker: Callable[[str], Tracker]) -> _Asked:
        """The next trial; the first is the recipe as it stands."""
        asked = self._journal.ask(ahead)
        settings = draw(self.space, self._base, asked) if number else {}
        shown = tracker(f"trial {number}, of {self._plan.trials}")
        return _Asked(number, asked, settings, with_settings(self._base, settings), PruningTracker(asked), shown)

    def _try(self, trials: Sequence[_Asked]) -> list[Trial]:
        """What comes of trials that were asked for together: noted when all are over, so that a search that is stopped
        proposes the same again."""
        ends: dict[int, tuple[End, TrainedRun | Exception, float]] = {}
        try:
            for company in grouped(trials, lambda one: pass_of(one.recipe.training)):
                began = time.monotonic()
                trained = self._train(company)
                seconds = round(time.monotonic() - began, 3)
                ends |= {one.number: (_end(one, run), run, seconds) for one, run in zip(company, trained, strict=True)}
        finally:
            for one in trials:
                one.shown.close()
        over = []
        for one in trials:
            end, run, seconds = ends[one.number]
            parameters = run.manifest().parameters.trained if isinstance(run, TrainedRun) else None
            pruning = one.pruning
            trial = Trial(one.number, one.settings, end, pruning.metric, tuple(pruning.values), parameters, seconds)
            self._journal.tell(one.asked, trial)
            over.append(trial)
        return over

    def _train(self, trials: Sequence[_Asked]) -> list[TrainedRun | Exception]:
        """Train trials that can share a pass, side by side."""
        backbone = self._bench.backbone(trials[0].recipe)
        return train_side_by_side(backbone, [self._planned(one, backbone) for one in trials])

    def _planned(self, trial: _Asked, backbone: Backbone) -> Planned:
        recipe, everyone = trial.recipe, Trackers(trial.shown, trial.pruning)
        try:
            prepared = replace(self._bench.prepare(recipe, backbone), test=None)
        except ForewordError as error:
            raise _failed(trial, error) from error
        return Planned(recipe.method, prepared, recipe.training, Keeping(everyone, recipe=recipe.to_dict()))

    def _identity(self, digest: str) -> dict[str, Any]:
        space = {one.name: repr(one.values) for one in self.space}
        said = {"space": space, "seed": self._plan.seed, "pruner": self._plan.pruner}
        whole = sha256(json.dumps([digest, said], sort_keys=True).encode()).hexdigest()
        return {"format": "foreword-search", "name": self._recipe.name, "digest": whole, **said}


def _end(trial: _Asked, run: TrainedRun | Exception) -> End:
    """How a trial ended.

    Raises:
        ForewordError: it could not be run.
    """
    match run:
        case optuna.TrialPruned():
            return "pruned"
        case Diverged():
            return "diverged"
        case ForewordError():
            raise _failed(trial, run) from run
        case Exception():
            raise run
    return "finished"


def _failed(trial: _Asked, error: ForewordError) -> ForewordError:
    return ForewordError(f"trial {trial.number} ({in_words(trial.settings)}): {error}")


def _open_folder(output: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder ours, or see that it holds this search."""
    mark = output / MARK
    try:
        if mark.is_file():
            if parse_json(mark.read_text("utf-8")).get("digest") == identity["digest"]:
                return
            raise OutputError(
                f"{output}: holds another search (of another recipe, data, --search, --holdout, --seed or --pruner). "
                "Choose another --output"
            )
        output.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(identity, indent=1) + "\n", "utf-8")
    except (OSError, ValueError, AttributeError) as error:
        raise OutputError(f"{mark}: cannot be read or written ({error})") from error


def _depth(backbone: Backbone) -> int:
    """Layers of the shallowest stack."""
    stacks = {site.stack for site in backbone.sites}
    return min(1 + max(site.layer for site in backbone.sites if site.stack == stack) for stack in stacks)
