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

from agents.base import Agent
from agents.moves import draw, measured, mutated, neighbours, new
from wpk_envs.schedules.space import Prefix, ScheduleSpace
from wpk_envs.tuning import TuningProblem


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
        # Every program reads the settings above; importing scikit-learn takes time that only this one must spend.
        from agents.cost_model import CostModel

        rng = np.random.default_rng(seed)
        model = CostModel(problem.space, self.trees, self.learning_rate)
        known = measured(problem, draw(problem, rng, self.batch))
        while not problem.done:
            model.fit(known)
            wanted = model.ranked(new(self._candidates(problem.space, rng, known), known))
            chosen = wanted[: self.batch - rng.binomial(self.batch, self.epsilon)]
            chosen += new(draw(problem, rng, self.batch), chosen)
            known |= measured(problem, chosen[: self.batch])

    def _candidates(self, space: ScheduleSpace, rng: np.random.Generator, known: dict[Prefix, float]) -> list[Prefix]:
        found = [space.sample(rng) for _ in range(self.pool)]
        for elite in sorted(known, key=lambda vector: -known[vector])[: self.elites]:
            found += neighbours(space, rng, elite)
            found += [mutated(space, rng, elite, int(rng.integers(1, 4))) for _ in range(self.mutations)]
        return found
