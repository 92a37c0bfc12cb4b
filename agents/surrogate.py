"""Search by a cost model: gradient-boosted trees predict the gain, the best predicted configs are measured.

What AutoTVM (Chen et al., NeurIPS 2018, arXiv 1805.08166) and Ansor (Zheng et al., OSDI 2020,
arXiv 2006.06762) do: the model learns from every trial so far, candidates come from random draws and from
variations of the best configs, and a share of every batch is random so that the model sees the rest of the
space too. Unlike theirs, the features here are the knobs alone, so that any template can be searched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from agents.base import Agent
from agents.moves import draw, measured, mutated, neighbours, new
from wpk_envs.core import Knob
from wpk_envs.schedules.space import Prefix, ScheduleSpace
from wpk_envs.tuning import TuningProblem

ABSENT = -8.0
"""What a knob reads as that the template lacks: less than any value."""


@dataclass
class Surrogate(Agent):
    """Measure the best predicted of many untried configs, batch by batch; the first batch is random.

    Attributes:
        batch: Configs measured between two fits of the model.
        pool: Random configs whose gain is predicted for a batch.
        elites: Best configs so far whose neighbours and mutations are predicted as well.
        mutations: Mutations of every such config, each of up to 3 knobs.
        epsilon: Share of a batch that is random.
        trees: Trees of the model.
        learning_rate: The model's step size.
    """

    name: ClassVar[str] = "surrogate"
    batch: int = 8
    pool: int = 256
    elites: int = 5
    mutations: int = 16
    epsilon: float = 0.1
    trees: int = 50
    learning_rate: float = 0.15

    def __post_init__(self) -> None:
        self.check(1, math.inf, "batch", "trees")
        self.check(0, math.inf, "pool", "elites", "mutations")
        self.check(0, 1, "epsilon")
        self.check(1e-6, math.inf, "learning_rate")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Fit, predict, measure, until the budget is spent."""
        rng = np.random.default_rng(seed)
        features = Features(problem.space)
        known = measured(problem, draw(problem, rng, self.batch))
        with threadpool_limits(limits=1, user_api="openmp"):
            while not problem.done:
                candidates = new(self._candidates(problem.space, rng, known), known)
                wanted = self._best_predicted(features, known, candidates)
                chosen = wanted[: self.batch - rng.binomial(self.batch, self.epsilon)]
                chosen += new(draw(problem, rng, self.batch), chosen)
                known |= measured(problem, chosen[: self.batch])

    def _best_predicted(self, features: Features, known: dict[Prefix, float], candidates: list[Prefix]) -> list[Prefix]:
        """The candidates, the best predicted first."""
        if not candidates or not known:
            return candidates
        model = HistGradientBoostingRegressor(
            max_iter=self.trees,
            learning_rate=self.learning_rate,
            max_leaf_nodes=15,
            min_samples_leaf=3,
            early_stopping=False,
        )
        model.fit(features(list(known)), list(known.values()))
        order = np.argsort(-model.predict(features(candidates)), kind="stable")
        return [candidates[index] for index in order]

    def _candidates(self, space: ScheduleSpace, rng: np.random.Generator, known: dict[Prefix, float]) -> list[Prefix]:
        found = [space.sample(rng) for _ in range(self.pool)]
        for elite in sorted(known, key=lambda vector: -known[vector])[: self.elites]:
            found += neighbours(space, rng, elite)
            found += [mutated(space, rng, elite, int(rng.integers(1, 4))) for _ in range(self.mutations)]
        return found


class Features:
    """Configs as rows of numbers: the template one-hot, every other knob's value on a log scale.

    A knob that the template lacks reads `ABSENT`; NaN would not do, since the trees refuse a column of nothing
    but NaN. Words beside numbers ("all", "none") lie a factor of two beyond the numbers on their side. Of a
    knob of words alone the option's number counts.
    """

    def __init__(self, space: ScheduleSpace) -> None:
        knobs = space.encoding.knobs
        self._templates = len(knobs[0].options)
        self._values = np.full((len(knobs), space.encoding.width), ABSENT)
        self._has = np.zeros((self._templates, len(knobs)), dtype=bool)
        for position, knob in enumerate(knobs):
            self._values[position, : len(knob.options)] = scale(knob)
        for number, name in enumerate(knobs[0].options):
            template = space.templates.get(str(name))
            self._has[number] = [template is not None and knob.name in template.knobs for knob in knobs]

    def __call__(self, vectors: list[Prefix]) -> np.ndarray:
        """Rows of the configs, ``float64[configs, templates + knobs - 1]``."""
        options = np.array(vectors)
        template = options[:, 0]
        values = self._values[np.arange(options.shape[1]), options]
        values = np.where(self._has[template], values, ABSENT)[:, 1:]
        return np.hstack([np.eye(self._templates)[template], values])


def scale(knob: Knob) -> list[float]:
    """Every option of a knob as a number, base-2 logarithms of numbers."""
    logs = [math.log2(option) if isinstance(option, int) and option > 0 else None for option in knob.options]
    numbers = [log for log in logs if log is not None]
    if not numbers:
        return [float(number) for number in range(len(logs))]
    first = logs.index(numbers[0])
    beside = [min(numbers) - 1 if position < first else max(numbers) + 1 for position in range(len(logs))]
    return [other if log is None else log for log, other in zip(logs, beside)]
