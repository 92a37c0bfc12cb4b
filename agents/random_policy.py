"""The random policy in each formulation: what PPO's environments give without any learning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

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
    formulation: ClassVar[str] = "construct"
    n_envs: int = 8

    def __post_init__(self) -> None:
        self.check(1, math.inf, "n_envs")

    def search(self, problem: TuningProblem, seed: int) -> None:
        """Play episode after episode."""
        rng = np.random.default_rng(seed)
        env = ScheduleVectorEnv(problem, self.n_envs, self.formulation)
        env.reset(seed=seed)
        while not problem.done:
            masks = env.action_masks(exclude_tried=True)
            env.step(np.array([_choose(env.single_action_space, mask, rng) for mask in masks]))


class RandomPolicyOneShot(RandomPolicy):
    """Choose every knob's option uniformly among those that some valid config has; most combinations are invalid."""

    name = "random_policy_oneshot"
    formulation = "one_shot"


class RandomPolicyRefine(RandomPolicy):
    """Walk at random from config to config, to untried ones while one is near."""

    name = "random_policy_refine"
    formulation = "refine"


def _choose(space: Any, mask: np.ndarray, rng: np.random.Generator) -> Any:
    """An allowed action of a ``Discrete`` or ``MultiDiscrete`` space; any one where none is allowed."""
    sizes = getattr(space, "nvec", [mask.size])
    parts = np.split(mask if mask.any() else ~mask, np.cumsum(sizes)[:-1])
    chosen = [rng.choice(np.flatnonzero(part)) for part in parts]
    return chosen if hasattr(space, "nvec") else chosen[0]
