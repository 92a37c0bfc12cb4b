"""The random policy: what PPO's environment gives without any learning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agents.base import Agent
from wpk_envs.envs import ScheduleVectorEnv
from wpk_envs.tuning import TuningProblem


@dataclass
class RandomPolicy(Agent):
    """Choose uniformly among the allowed options, knob by knob, in the ``construct`` environment.

    Unlike `agents.random_search.RandomSearch` this is not uniform over configs: a template with few valid
    configs is chosen as often as one with many.

    Attributes:
        n_envs: Episodes at a time.
    """

    name: ClassVar[str] = "random_policy"
    n_envs: int = 8

    def __post_init__(self) -> None:
        self.check(1, math.inf, "n_envs")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Play episode after episode."""
        rng = np.random.default_rng(seed)
        env = ScheduleVectorEnv(problem, self.n_envs)
        env.reset()
        while not problem.done:
            masks = env.action_masks(exclude_tried=True)
            env.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks]))
