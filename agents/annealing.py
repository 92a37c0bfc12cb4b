"""Simulated annealing (Kirkpatrick, Gelatt, Vecchi 1983) over neighbouring configs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import Agent
from agents.moves import draw, measured, neighbours, new
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import TuningProblem


@dataclass
class Annealing(Agent):
    """Chains that move to an untried neighbour always if it is better, by chance if it is worse.

    A step measures one neighbour per chain, all as one batch. A neighbour whose log speedup is d lower is
    accepted with the chance exp(-d / T). The temperature T is geometric: ``temperature`` times ``cooling``
    to the number of steps. With the defaults a config 10 % slower is accepted with a chance of 35 % at the
    start, of 0.5 % after 10 steps.

    Attributes:
        chains: Chains, and so configs measured together.
        temperature: T of the first step, as a difference of log speedups.
        cooling: Factor of T from step to step.
    """

    name: ClassVar[str] = "annealing"
    chains: int = 4
    temperature: float = 0.1
    cooling: float = 0.85

    def __post_init__(self) -> None:
        self.check(1, math.inf, "chains")
        self.check(1e-9, math.inf, "temperature")
        self.check(0, 1, "cooling")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Step after step, from random configs."""
        rng = np.random.default_rng(seed)
        known = measured(problem, draw(problem, rng, self.chains))
        chains = list(known)
        temperature = self.temperature
        while not problem.done:
            proposals = _proposals(problem, rng, chains, known)
            rewards = measured(problem, list(proposals))
            known |= rewards
            for vector, reward in rewards.items():
                chain = proposals[vector]
                if _accepts(rng, reward - known[chains[chain]], temperature):
                    chains[chain] = vector
            temperature *= self.cooling


def _proposals(
    problem: TuningProblem, rng: np.random.Generator, chains: list[Prefix], known: dict[Prefix, float]
) -> dict[Prefix, int]:
    """A new neighbour of every chain's config, with the chain's number; a random config where all were tried."""
    proposals: dict[Prefix, int] = {}
    for chain, at in enumerate(chains):
        fresh = new(neighbours(problem.space, rng, at), known, proposals) or new(draw(problem, rng, 1), proposals)
        if fresh:
            proposals[fresh[0]] = chain
    return proposals


def _accepts(rng: np.random.Generator, gained: float, temperature: float) -> bool:
    return gained > 0 or (temperature > 0 and rng.random() < math.exp(gained / temperature))
