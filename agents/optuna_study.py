"""A schedule space as Optuna sees it: parameters, finished trials, a study."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from wpk_envs.schedules.space import INVALID_NODE, Prefix, ScheduleSpace

FAIL = TrialState.FAIL
TEMPLATE = "template"


def new_study(parameters: Parameters, seed: int, startup: int, candidates: int, multivariate: bool) -> optuna.Study:
    """A study in memory that maximises by TPE.

    Args:
        parameters: What is asked for.
        seed: Seeds the sampler.
        startup: Random trials before the estimator is used.
        candidates: Draws from the estimator per suggestion.
        multivariate: Whether the parameters of a template are estimated jointly.
    """
    sampler = TemplateFirst(
        parameters,
        n_startup_trials=startup,
        n_ei_candidates=candidates,
        seed=seed % 2**32,
        multivariate=multivariate,
        constant_liar=True,
    )
    return optuna.create_study(direction="maximize", sampler=sampler)


class TemplateFirst(optuna.samplers.TPESampler):
    """TPE that, where it is multivariate, draws the template and then the knobs of that template jointly.

    Optuna's own ``group=True`` estimates the same, but draws the knobs of every template each time.
    """

    def __init__(self, parameters: Parameters, multivariate: bool, **settings: Any) -> None:
        super().__init__(multivariate=multivariate, **settings)
        self._parameters = parameters
        self._jointly = multivariate

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters, if they are estimated jointly."""
        return self._parameters.distributions() if self._jointly else {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the template and its knobs; nothing before the random trials are over."""
        if not search_space:
            return {}
        drawn = super().sample_relative(study, trial, {TEMPLATE: search_space[TEMPLATE]})
        if not drawn:
            return {}
        return drawn | super().sample_relative(study, trial, self._parameters.knobs[drawn[TEMPLATE]])


class Parameters:
    """A space's configs as parameters of Optuna.

    Knobs with at least two numbers are ordered, the others categorical. Only options that some valid config of the
    template has are offered, and knobs with a single one are no parameters.

    Attributes:
        templates: Options of the first knob; the parameter of that name is a position in this list.
        knobs: For each of them the distributions of its knobs, by name.
    """

    def __init__(self, space: ScheduleSpace) -> None:
        self._space = space
        self.templates = [int(option) for option in np.flatnonzero(space.masks[space.root])]
        self._options = [reachable(space, template) for template in self.templates]
        self._varied = [
            {self._name(template, position): position for position, found in enumerate(options) if len(found) > 1}
            for template, options in zip(self.templates, self._options)
        ]
        self.knobs = [
            {name: self._distribution(position, len(options[position])) for name, position in varied.items()}
            for varied, options in zip(self._varied, self._options)
        ]

    def distributions(self) -> dict[str, BaseDistribution]:
        """Of the template and of every template's knobs, by name."""
        distributions: dict[str, BaseDistribution] = {TEMPLATE: CategoricalDistribution(range(len(self.templates)))}
        for knobs in self.knobs:
            distributions |= knobs
        return distributions

    def suggest(self, trial: optuna.Trial) -> Prefix:
        """What the sampler wants; not a valid config in general."""
        template = trial.suggest_categorical(TEMPLATE, range(len(self.templates)))
        vector = [options[0] for options in self._options[template]]
        for name, position in self._varied[template].items():
            options, distribution = self._options[template][position], self.knobs[template][name]
            if isinstance(distribution, IntDistribution):
                index = trial.suggest_int(name, distribution.low, distribution.high)
            else:
                index = trial.suggest_categorical(name, range(len(options)))
            vector[position] = options[index]
        return tuple(vector)

    def result(self, vector: Prefix, reward: float) -> FrozenTrial:
        """A config that was measured, as a finished trial."""
        template = self.templates.index(vector[0])
        distributions: dict[str, BaseDistribution] = {
            TEMPLATE: CategoricalDistribution(range(len(self.templates))),
            **self.knobs[template],
        }
        params = {TEMPLATE: template}
        for name, position in self._varied[template].items():
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
