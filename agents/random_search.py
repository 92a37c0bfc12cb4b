"""Random search: the baseline that every other agent must beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import Agent
from wpk_envs.tuning import TuningProblem


@dataclass
class RandomSearch(Agent):
    """Draw uniformly among the valid configs that were not tried yet.

    Attributes:
        batch: Configs measured together.
    """

    name: ClassVar[str] = "random"
    batch: int = 8

    def __post_init__(self) -> None:
        self.check(1, math.inf, "batch")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Measure batch after batch."""
        rng = np.random.default_rng(seed)
        while not problem.done:
            drawn = [problem.sample_untried(rng) for _ in range(self.batch)]
            problem.measure([vector for vector in dict.fromkeys(drawn) if vector is not None])
