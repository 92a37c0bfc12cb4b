"""A schedule space as Optuna sees it: parameters, finished trials, a study."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from wpk_envs.schedules.space import INVALID_NODE, Prefix, ScheduleSpace

FAIL = TrialState.FAIL
TEMPLATE = "template"


def new_study(seed: int, startup: int, candidates: int, multivariate: bool) -> optuna.Study:
    """A study in memory that maximises by TPE.

    Args:
        seed: Seeds the sampler.
        startup: Random trials before the estimator is used.
        candidates: Draws from the estimator per suggestion.
        multivariate: Whether the parameters of a template are estimated jointly.
    """
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=startup,
        n_ei_candidates=candidates,
        seed=seed % 2**32,
        multivariate=multivariate,
        group=multivariate,
        constant_liar=True,
    )
    return optuna.create_study(direction="maximize", sampler=sampler)


class Parameters:
    """A space's configs as parameters of Optuna.

    Knobs with at least two numbers are ordered, the others categorical. Only options that some valid config of the
    template has are offered, and knobs with a single one are no parameters.
    """

    def __init__(self, space: ScheduleSpace) -> None:
        self._space = space
        self._templates = [int(option) for option in np.flatnonzero(space.masks[space.root])]
        self._options = {template: reachable(space, template) for template in self._templates}
        self._distributions = {
            template: {
                position: self._distribution(position, len(options))
                for position, options in enumerate(self._options[template])
                if position and len(options) > 1
            }
            for template in self._templates
        }

    def suggest(self, trial: optuna.Trial) -> Prefix:
        """What the sampler wants; not a valid config in general."""
        template = self._templates[trial.suggest_categorical(TEMPLATE, range(len(self._templates)))]
        vector = [options[0] for options in self._options[template]]
        for position, distribution in self._distributions[template].items():
            name = self._name(template, position)
            options = self._options[template][position]
            if isinstance(distribution, IntDistribution):
                index = trial.suggest_int(name, distribution.low, distribution.high)
            else:
                index = trial.suggest_categorical(name, range(len(options)))
            vector[position] = options[index]
        return tuple(vector)

    def result(self, vector: Prefix, reward: float) -> FrozenTrial:
        """A config that was measured, as a finished trial."""
        template = vector[0]
        distributions: dict[str, BaseDistribution] = {TEMPLATE: CategoricalDistribution(range(len(self._templates)))}
        params = {TEMPLATE: self._templates.index(template)}
        for position, distribution in self._distributions[template].items():
            name = self._name(template, position)
            distributions[name] = distribution
            params[name] = self._options[template][position].index(vector[position])
        return optuna.trial.create_trial(params=params, distributions=distributions, value=reward)

    def _name(self, template: int, position: int) -> str:
        knobs = self._space.encoding.knobs
        return f"{knobs[0].options[template]}.{knobs[position].name}"

    def _distribution(self, position: int, count: int) -> IntDistribution | CategoricalDistribution:
        numbers = [option for option in self._space.encoding.knobs[position].options if isinstance(option, int)]
        return IntDistribution(0, count - 1) if len(numbers) > 1 else CategoricalDistribution(range(count))


def reachable(space: ScheduleSpace, template: int) -> list[list[int]]:
    """Options that some valid config of a template has, for every knob; the template's own first."""
    options, layer = [[template]], {space.child(space.root, template)}
    for _ in range(1, space.length):
        options.append([int(option) for option in np.flatnonzero(space.masks[sorted(layer)].any(axis=0))])
        layer = {space.child(node, option) for node in layer for option in options[-1]} - {INVALID_NODE}
    return options


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log to errors, and silence its warnings of experimental arguments; restore both after."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
