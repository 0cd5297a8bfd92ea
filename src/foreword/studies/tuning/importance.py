"""How much of the differences between trials each setting explains.

Source: Hutter et al. 2014, 'An Efficient Approach for Assessing Hyperparameter Importance' (fANOVA), as in optuna.
"""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from foreword.recipes.search import Range
from foreword.recipes.templates.settings import toml_value
from foreword.studies.tuning.space import Space, widest
from foreword.studies.tuning.trials import Trial

LEAST = 8
"""Finished trials below which a forest says nothing."""


def importances(trials: Sequence[Trial], space: Space, *, seed: int) -> dict[str, float]:
    """Path -> share of the variance it explains alone, greatest first; they add up to 1.

    A setting that only counts with another one (the start's scale, say) is left out, and so are the trials that were
    not run to their end. Nothing comes out where there are too few, or where all are equally good.
    """
    changed = [one for one in trials if one.end == "finished" and one.settings]
    if len(changed) < LEAST or len({one.value for one in changed}) == 1:
        return {}
    common = set.intersection(*(set(one.settings) for one in changed))
    distributions = {path: _distribution(values) for path, values in widest(space).items() if path in common}
    study = optuna.create_study(direction="maximize")
    for one in changed:
        params = {
            path: toml_value(one.settings[path]) if isinstance(kind, CategoricalDistribution) else one.settings[path]
            for path, kind in distributions.items()
        }
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=one.value))
    found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {path: float(share) for path, share in found.items()}


def _distribution(values: Range | tuple[object, ...]) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution([toml_value(value) for value in values])
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
