"""Optuna's side of a search: what it keeps on disk, how it proposes, when it gives a run up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from foreword.studies.tuning.trials import Trial

Pruner = Literal["median", "halving", "none"]
PRUNERS: dict[Pruner, BasePruner] = {
    "median": MedianPruner(n_startup_trials=4),
    "halving": SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
    "none": NopPruner(),
}
"""Which trials are given up: those whose best value so far is below the median of the others after as many
evaluations, or all but the best third of those that came as far (asynchronous successive halving)."""
_FIRST = 8
"""So many trials are drawn at random before any is proposed by what was learned."""


class Journal:
    """Every trial of a search, on disk. One process at a time goes on with it.

    What is proposed depends on the seed and on the trials that are over, and on nothing else: a search that was
    stopped proposes the same as one that was not.

    Args:
        file: made if missing.
        pruner: a key of `PRUNERS`.
        seed: of the proposals.
    """

    def __init__(self, file: Path, *, pruner: Pruner, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._seed = seed
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(file))),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
            pruner=PRUNERS[pruner],
        )
        for left in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self._study.tell(left.number, state=TrialState.FAIL)  # stopped in the middle; it is proposed again

    def trials(self) -> list[Trial]:
        """All that are over, in order."""
        over = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return [Trial(values=tuple(one.intermediate_values.values()), **one.user_attrs["trial"]) for one in over]

    def ask(self, ahead: int = 0) -> optuna.trial.Trial:
        """The next trial.

        Args:
            ahead: how many were asked for before it that are not over; their neighbourhood is kept clear of.
        """
        entropy = np.random.SeedSequence((self._seed, len(self.trials()) + ahead))
        self._study.sampler = TPESampler(
            n_startup_trials=_FIRST,
            multivariate=False,  # dimensions come and go with others
            constant_liar=ahead > 0,
            seed=int(entropy.generate_state(1)[0]),
        )
        return self._study.ask()

    def tell(self, asked: optuna.trial.Trial, trial: Trial) -> None:
        """What became of it."""
        said = asdict(trial)
        del said["values"]  # reported already
        asked.set_user_attr("trial", said)
        if trial.end == "finished":
            self._study.tell(asked, trial.value)
        else:
            self._study.tell(asked, state=TrialState.PRUNED)


class PruningTracker:
    """Reports the evaluations of a run, and ends it when it is no longer worth its time.

    Args:
        asked: the trial that the run is.
    """

    def __init__(self, asked: optuna.trial.Trial) -> None:
        self._asked = asked
        self._steps = 0
        self.values: list[float] = []
        self.metric = ""

    def event(self, kind: str, step: int, values: Mapping[str, Any]) -> None:
        """Count evaluations, so that runs of other batch sizes can be compared.

        Raises:
            optuna.TrialPruned: to end the run.
        """
        if kind == "start":
            self._steps = values["steps"]
        elif kind == "evaluation":
            self.metric = values["main"]
            self.values.append(values[self.metric])
            self._asked.report(self.values[-1], len(self.values))
            if step < self._steps and self._asked.should_prune():
                raise optuna.TrialPruned

    def close(self) -> None:
        """Nothing is kept open."""
