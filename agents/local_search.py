"""Iterated local search: climb to a local optimum, perturb it, climb again (Lourenço, Martin, Stützle 2003)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import Agent
from agents.moves import draw, measured, mutated, nearest_untried, neighbours, new
from wpk_envs.schedules.space import Prefix
from wpk_envs.tuning import TuningProblem


@dataclass
class LocalSearch(Agent):
    """From the best of a few random configs, measure untried neighbours batch by batch and move to improvements.

    A config none of whose neighbours is better is a local optimum, and so is one of which ``patience``
    neighbours in a row were no better. The best one so far is then perturbed, or the search starts anew.

    Attributes:
        batch: Configs measured together; the best of such a batch of random or perturbed ones starts a climb.
        patience: Neighbours that were no better until a config counts as a local optimum.
        knobs: Knobs that a perturbation changes.
        restart: Chance to start from random configs in place of a perturbation.
    """

    name: ClassVar[str] = "local_search"
    batch: int = 8
    patience: int = 24
    knobs: int = 3
    restart: float = 0.1

    def __post_init__(self) -> None:
        self.check(1, math.inf, "batch", "patience", "knobs")
        self.check(0, 1, "restart")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Climb, perturb the best, climb again."""
        rng = np.random.default_rng(seed)
        known: dict[Prefix, float] = {}
        start = draw(problem, rng, self.batch)
        while not problem.done:
            rewards = measured(problem, start)
            known |= rewards
            if rewards:
                self._climb(problem, rng, known, max(rewards, key=rewards.__getitem__))
            start = self._next_start(problem, rng, known)

    def _climb(self, problem: TuningProblem, rng: np.random.Generator, known: dict[Prefix, float], at: Prefix) -> None:
        """Move from config to better neighbour until none is found; ``known`` gains what was measured."""
        failures = 0
        fresh = neighbours(problem.space, rng, at)
        while failures < self.patience and not problem.done:
            fresh = new(fresh, known)
            rewards = measured(problem, fresh[: self.batch])
            if not rewards:
                return
            known |= rewards
            failures += len(rewards)
            best = max(rewards, key=rewards.__getitem__)
            if rewards[best] > known[at]:
                at, failures = best, 0
                fresh = neighbours(problem.space, rng, at)

    def _next_start(self, problem: TuningProblem, rng: np.random.Generator, known: dict[Prefix, float]) -> list[Prefix]:
        if not known or rng.random() < self.restart:
            return draw(problem, rng, self.batch)
        best = max(known, key=known.__getitem__)
        kicked = [mutated(problem.space, rng, best, self.knobs) for _ in range(self.batch)]
        return new(nearest_untried(problem, vector) for vector in kicked)
